//! The least that a broadcast over TCP can cost: frames encoded beforehand, one `write` a socket for all that are under way at
//! once, nothing else.
//!
//! `floor [CONNECTIONS] [BROADCASTS] [IN_FLIGHT]` writes and measures. It starts itself again as `floor read`, which only reads
//! and counts, so that the reader's CPU time is not in the figures. With two cores or more, pin the two apart:
//! `FLOOR_READER_CPU=1 taskset -c 0 floor`.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fanfare_benches::{Outcome, argument, arguments, raise_open_files, text_frame};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

const PAYLOAD: usize = 256;

fn main() -> Outcome<()> {
    raise_open_files()?;
    if let [word, address, connections, frame] = arguments(0).as_slice()
        && word == "read"
    {
        return read(address, connections.parse()?, frame.parse()?);
    }
    let (connections, broadcasts) = (argument(0, 1_000)?, argument(1, 1_000)?);
    // So many leave in one write; the next ones when all connections have them, so that no socket's buffer fills and no write
    // waits.
    let in_flight = argument(2, 64)?;
    if connections == 0 || broadcasts == 0 || in_flight == 0 {
        return Err("CONNECTIONS, BROADCASTS and IN_FLIGHT must be at least 1".into());
    }
    write(connections, broadcasts, in_flight)
}

/// Accepts the reader's connections, broadcasts to them and prints what that cost this process.
fn write(connections: usize, broadcasts: u64, in_flight: u64) -> Outcome<()> {
    let frame = text_frame(&[b'x'; PAYLOAD]);
    let frames = frame.repeat(in_flight.min(broadcasts).try_into()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let program = std::env::current_exe()?;
    let mut command = match std::env::var("FLOOR_READER_CPU") {
        Ok(cpu) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &cpu]).arg(program);
            command
        }
        Err(_) => Command::new(program),
    };
    let mut reader = command
        .arg("read")
        .arg(listener.local_addr()?.to_string())
        .args([connections.to_string(), frame.len().to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut sockets = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let mut seen = reader.stdout.take().ok_or("the reader has no output")?;

    let began = Instant::now();
    let before = cpu()?;
    let (mut sent, mut acknowledged) = (0, 0);
    while sent < broadcasts {
        let number = in_flight.min(broadcasts - sent);
        let length = frame.len() * usize::try_from(number)?;
        let batch = frames.get(..length).ok_or("too few frames")?;
        for socket in &mut sockets {
            // Short writes cannot be ignored: the rest of the frame would be missing.
            socket.write_all(batch)?;
        }
        sent += number;
        // The reader prints one byte for each broadcast that all its connections have.
        while acknowledged < sent {
            let read = seen.read(&mut [0; 64])?;
            if read == 0 {
                return Err(
                    format!("only {acknowledged} of {broadcasts} broadcasts arrived").into(),
                );
            }
            acknowledged += read as u64;
        }
    }
    let used = cpu()?.saturating_sub(before);
    for socket in &sockets {
        socket.shutdown(Shutdown::Write)?;
    }
    let wall = began.elapsed();
    if !reader.wait()?.success() {
        return Err("the reader failed".into());
    }
    let deliveries = broadcasts * connections as u64;
    println!(
        "floor connections={connections} deliveries={deliveries} cpu_us_per_delivery={:.3} wall_s={:.3}",
        used.as_secs_f64() * 1e6 / deliveries as f64,
        wall.as_secs_f64(),
    );
    Ok(())
}

/// User and system time of this process so far.
fn cpu() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let mut sum = Duration::ZERO;
    for time in [usage.user_time(), usage.system_time()] {
        sum += Duration::from_secs(time.tv_sec().try_into()?);
        sum += Duration::from_micros(time.tv_usec().try_into()?);
    }
    Ok(sum)
}

/// Counts, for each broadcast that some connection still lacks, how many have it.
struct Progress {
    connections: usize,
    first: usize,
    counts: VecDeque<usize>,
}

impl Progress {
    const fn new(connections: usize) -> Self {
        Self {
            connections,
            first: 0,
            counts: VecDeque::new(),
        }
    }

    /// Broadcast `number`, from 0 on, arrived at one more connection. How many became complete by that.
    fn arrived(&mut self, number: usize) -> usize {
        let at = number - self.first;
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        let before = self.first;
        while self.counts.front() == Some(&self.connections) {
            self.counts.pop_front();
            self.first += 1;
        }
        self.first - before
    }
}

/// Reads every connection to its end; prints one byte for each broadcast that all connections have received.
fn read(address: &str, connections: usize, frame: usize) -> Outcome<()> {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut sockets = Vec::with_capacity(connections);
    for key in 0..connections {
        let socket = TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        epoll::add(
            &poller,
            &socket,
            epoll::EventData::new_u64(key as u64),
            epoll::EventFlags::IN,
        )?;
        sockets.push((socket, 0));
    }
    let mut progress = Progress::new(connections);
    let mut ready = Vec::with_capacity(1_024);
    let mut buffer = vec![0; 64 * 1_024];
    let mut open = connections;
    let mut output = std::io::stdout().lock();
    while open > 0 {
        ready.clear();
        epoll::wait(&poller, spare_capacity(&mut ready), None)?;
        let mut complete = Vec::new();
        for event in ready.drain(..) {
            let key = usize::try_from(event.data.u64())?;
            let (socket, bytes) = sockets.get_mut(key).ok_or("an event of no socket")?;
            let read = socket.read(&mut buffer)?;
            if read == 0 {
                if *bytes % frame != 0 {
                    return Err(format!("connection {key} ended within a frame").into());
                }
                epoll::delete(&poller, &*socket)?;
                open -= 1;
            }
            let frames = *bytes / frame;
            *bytes += read;
            for number in frames..*bytes / frame {
                complete.extend(vec![b'.'; progress.arrived(number)]);
            }
        }
        output.write_all(&complete)?;
        output.flush()?;
    }
    Ok(())
}
