//! Publishes over HTTP, one by one: how many a second a real server takes, and how long each waits for its answer.
//!
//! `publish [DIR] [SECONDS] [PUBLISHERS]...` starts the server that was built beside it, durable at once, relaxed, and in
//! memory, with its data in a folder of its own in DIR. So many publishers (1, 64 and 1,000) publish events with an id and 256
//! bytes of data over a connection each, SECONDS long: what is answered is followed by the next. First each to a task of its
//! own, then each time to another of 100,000 users. In turns with that, as many bytes as one commit had are appended to a file in DIR,
//! with `fdatasync`. Every answer has to have the room's next number. At last the server is killed, and what was
//! answered has to be there when it starts again. `LOAD_SERVER_CPU` and `LOAD_READER_CPU` pin server and publishers apart.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use fanfare_benches::{
    Http, Message, Outcome, Server, Sockets, Times, argument, arguments, fdatasyncs, in_folder,
    number_after, pin, raise_open_files, request,
};

const USERS: u64 = 100_000;
const DATA_BYTES: usize = 256;
const ROUNDS: u32 = 3;
/// Rooms that are looked at after the kill.
const LOOKED_AT: usize = 2_000;

fn main() -> Outcome<()> {
    raise_open_files()?;
    pin("LOAD_READER_CPU")?;
    let seconds = argument(1, 6.0)?;
    let words = arguments(2);
    let publishers = if words.is_empty() {
        vec![1, 64, 1_000]
    } else {
        let numbers = words.iter().map(|word| word.parse());
        numbers.collect::<Result<_, _>>()?
    };
    in_folder(0, |dir| {
        ["immediate", "relaxed", "memory"]
            .iter()
            .try_for_each(|mode| {
                let data = dir.join(mode);
                let data = data.to_str().ok_or("DIR has to be UTF-8")?;
                let arguments = match *mode {
                    "memory" => vec!["--memory"],
                    durability => vec!["--data", data, "--durability", durability],
                };
                measure(mode, &arguments, &dir.join("floor"), &publishers, seconds)
            })
    })
}

/// The last number that was answered of each room, by the path of its events.
type Heads = BTreeMap<String, u64>;

fn measure(
    mode: &str,
    arguments: &[&str],
    floor: &Path,
    publishers: &[usize],
    seconds: f64,
) -> Outcome<()> {
    let server = Server::start(arguments)?;
    let (mut number, mut heads) = (0, Heads::new());
    for (case, publishers) in publishers.iter().copied().enumerate() {
        for rooms in ["own", "any_user"] {
            let path = |publisher: usize, number: u64| match rooms {
                "own" => format!("/v1/tasks/{case:08x}-0000-4000-8000-{publisher:012x}/events"),
                _ => format!("/v1/users/{}/events", any(number)),
            };
            let each = Duration::from_secs_f64(seconds) / ROUNDS;
            let mut load = Load::new(&server, publishers)?;
            let mut floors = 0.0;
            let cpu = server.cpu_s()?;
            for _ in 0..ROUNDS {
                load.run(each, &mut number, &path)?;
                let bytes = load.bytes as u64 / load.commits.max(1);
                if mode != "memory" {
                    floors += fdatasyncs(floor, usize::try_from(bytes)?, each)?;
                }
            }
            let done = load.times.len() as f64;
            let (wall, commits) = (load.wall.as_secs_f64(), load.commits as f64);
            println!(
                "{mode} publishers={publishers} rooms={rooms} publishes_per_s={:.0} {} server_cpu_us_per_publish={:.1}",
                done / wall,
                load.times,
                (server.cpu_s()? - cpu) * 1e6 / done,
            );
            if mode != "memory" {
                let floor = floors / f64::from(ROUNDS);
                println!(
                    "  commits_per_s={:.0} publishes_per_commit={:.1} fdatasyncs_per_s={floor:.0} commits_per_fdatasync={:.2}",
                    commits / wall,
                    done / commits,
                    commits / wall / floor,
                );
            }
            load.into_heads(&mut heads)?;
        }
    }
    if mode == "memory" {
        return server.stop();
    }
    server.kill()?;
    let server = Server::start(arguments)?;
    let mut http = Http::connect(server.address)?;
    for (path, head) in heads.iter().step_by(heads.len().div_ceil(LOOKED_AT)) {
        let kept = http.number(&format!("{path}?limit=1"), r#""seq":"#)?;
        if kept != *head {
            return Err(format!("{path}: {head} was answered, {kept} is kept").into());
        }
    }
    server.stop()
}

/// A user who is another one for each number, about.
const fn any(number: u64) -> u64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % USERS + 1
}

/// Publishers at work, and what they were answered.
struct Load<'a> {
    server: &'a Server,
    metrics: Http,
    sockets: Sockets,
    /// When each publisher sent what it waits for, and where to.
    sent: Vec<Option<(Instant, String)>>,
    times: Times,
    wall: Duration,
    commits: u64,
    bytes: usize,
    answered: BTreeMap<String, Vec<u64>>,
}

impl<'a> Load<'a> {
    fn new(server: &'a Server, publishers: usize) -> Outcome<Self> {
        let mut sockets = Sockets::new()?;
        for _ in 0..publishers {
            sockets.connect(server.address)?;
        }
        Ok(Self {
            server,
            metrics: Http::connect(server.address)?,
            sockets,
            sent: vec![None; publishers],
            times: Times::default(),
            wall: Duration::ZERO,
            commits: 0,
            bytes: 0,
            answered: BTreeMap::new(),
        })
    }

    /// All publishers publish for so long; then what is under way is waited for.
    fn run(
        &mut self,
        during: Duration,
        number: &mut u64,
        path: &dyn Fn(usize, u64) -> String,
    ) -> Outcome<()> {
        let commits = self.commits_of_server()?;
        let began = Instant::now();
        let mut free: Vec<usize> = (0..self.sent.len()).collect();
        let mut under_way = 0;
        loop {
            if began.elapsed() < during {
                for publisher in free.drain(..) {
                    *number += 1;
                    self.publish(publisher, path(publisher, *number), *number)?;
                    under_way += 1;
                }
            }
            if under_way == 0 {
                break;
            }
            free.clear();
            self.sockets.turn(None, |publisher, message| {
                let Message::Answer { status: 200, body } = message else {
                    return Err(format!("{message:?}").into());
                };
                let sent = self.sent.get_mut(publisher).and_then(Option::take);
                let (since, path) = sent.ok_or("an answer to nothing")?;
                self.times.push(since.elapsed());
                let seq = number_after(body, br#""seq":"#).ok_or("no number")?;
                self.answered.entry(path).or_default().push(seq);
                free.push(publisher);
                under_way -= 1;
                Ok(())
            })?;
        }
        self.wall += began.elapsed();
        self.commits += self.commits_of_server()? - commits;
        Ok(())
    }

    fn publish(&mut self, publisher: usize, path: String, number: u64) -> Outcome<()> {
        let body = format!(
            r#"{{"type":"chat:message","id":"event-{number}","data":{{"text":"{:0width$}"}}}}"#,
            0,
            width = DATA_BYTES - r#"{"text":""}"#.len(),
        );
        let line = format!("POST {path}");
        let request = request(
            self.server.address,
            &line,
            Some(("application/json", body.as_bytes())),
        );
        self.bytes += body.len();
        if let Some(sent) = self.sent.get_mut(publisher) {
            *sent = Some((Instant::now(), path));
        }
        self.sockets.send(publisher, &request)
    }

    fn commits_of_server(&mut self) -> Outcome<u64> {
        self.metrics
            .number("/metrics", "\nfanfare_store_commits_total ")
    }

    /// Adds what was answered, in which each room's numbers go on from where they were, each once.
    fn into_heads(self, heads: &mut Heads) -> Outcome<()> {
        for (path, mut seqs) in self.answered {
            seqs.sort_unstable();
            let head = heads.entry(path).or_default();
            for seq in seqs {
                if seq != *head + 1 {
                    return Err(format!("a room's number {seq} was answered after {head}").into());
                }
                *head = seq;
            }
        }
        Ok(())
    }
}
