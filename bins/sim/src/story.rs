//! A plan as people read it: for each step one line, with what came of it. It is told from a run, so it is right for the plan
//! as it stands.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a step without words of its own is told as it is written"
)]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::disk;
use crate::history::{Observation, Place, Seen};
use crate::names::{Names, seconds};
use crate::plan::{Fault, Kind, Network, Plan, Since, Step, Target, Timed};
use crate::world::{self, Report};

/// Runs a plan, and tells its steps.
pub(crate) fn tell(plan: &Plan) -> (Vec<String>, Report) {
    let mut seen = Vec::new();
    let report = world::run(plan, &mut |it| seen.push(it.clone()));
    (Teller::new(plan, &seen).all(), report)
}

struct Teller<'p> {
    plan: &'p Plan,
    names: Names,
    /// By device: what was seen of it, in its order.
    devices: BTreeMap<usize, Vec<&'p Observation>>,
    /// By its number: what became of a publish.
    publishes: BTreeMap<u64, String>,
    published: u64,
    /// Publishers that have something to repeat.
    insisted: BTreeMap<usize, u64>,
}

impl<'p> Teller<'p> {
    fn new(plan: &'p Plan, seen: &'p [Observation]) -> Self {
        let mut teller = Self {
            plan,
            names: Names::new(plan),
            devices: BTreeMap::new(),
            publishes: BTreeMap::new(),
            published: 0,
            insisted: BTreeMap::new(),
        };
        for it in seen {
            if let Some(device) = it.seen.device() {
                teller.devices.entry(device).or_default().push(it);
            }
            if let Some((number, outcome)) = outcome(&it.seen) {
                teller.publishes.insert(number, outcome);
            }
        }
        teller
    }

    fn all(mut self) -> Vec<String> {
        let plan = self.plan;
        let steps = plan.steps.iter().enumerate();
        steps
            .map(|(number, timed)| {
                let told = self.step(number, timed);
                let told = self.names.shorten(&told);
                format!("t={}s {told}", seconds(timed.at_ms))
            })
            .collect()
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn step(&mut self, number: usize, timed: &Timed) -> String {
        let at = timed.at_ms;
        match &timed.step {
            Step::Connect { device, with } => self.connect(number, at, *device, *with),
            Step::Leave { device, in_order } => {
                let how = if *in_order {
                    "leaves in order"
                } else {
                    "goes without a word"
                };
                format!("{} {how}", self.names.device(*device))
            }
            Step::Join { device, task, with } => {
                let from = match with {
                    Since::Positions => "from where it was",
                    Since::Nothing => "and names no position",
                    Since::Old => "from where it was long ago",
                    Since::Garbage => "from what is no position",
                    Since::Foreign => "from a position of another server",
                    Since::Future => "from a position beyond the end",
                };
                self.operation(*device, at, "join", &format!("joins task:{task} {from}"))
            }
            Step::Part { device, task } => {
                self.operation(*device, at, "leave", &format!("leaves task:{task}"))
            }
            Step::Ack { device, behind } => self.operation(
                *device,
                at,
                "ack",
                &format!("acknowledges {}", last(*behind)),
            ),
            Step::Read { device, behind } => {
                self.operation(*device, at, "read", &format!("has read {}", last(*behind)))
            }
            Step::Send {
                device,
                task,
                ephemeral,
            } => {
                let what = if *ephemeral {
                    "something passing"
                } else {
                    "something"
                };
                self.operation(*device, at, "send", &format!("says {what} in task:{task}"))
            }
            Step::Babble { device, text } => {
                format!(
                    "{} says {text:?}, which no client should",
                    self.names.device(*device)
                )
            }
            Step::Garble { device, how } => {
                format!("{} sends {}", self.names.device(*device), how.story())
            }
            Step::Chatter { device, count } => {
                format!("{} says {count} things at once", self.names.device(*device))
            }
            Step::StopReading { device } => {
                format!("{} stops reading", self.names.device(*device))
            }
            Step::ResumeReading { device } => {
                format!("{} reads again", self.names.device(*device))
            }
            Step::ReadSlowly { device, every_ms } => format!(
                "{} reads one frame in {}s",
                self.names.device(*device),
                seconds(*every_ms)
            ),
            Step::Background { device, for_ms } => format!(
                "{} sleeps for {}s",
                self.names.device(*device),
                seconds(*for_ms)
            ),
            Step::HalfClose { device } => format!(
                "{} ends its side of the line, and reads on",
                self.names.device(*device)
            ),
            Step::Unclog { device } => {
                format!("the line of {} goes on", self.names.device(*device))
            }
            Step::Token { device, token } => {
                let tasks = match &token.tasks {
                    None => "all tasks".to_owned(),
                    Some(tasks) => {
                        let tasks = tasks.iter().map(|task| format!("task:{task}"));
                        format!("these tasks: {}", tasks.collect::<Vec<_>>().join(" "))
                    }
                };
                format!(
                    "{} gets a token for {tasks}, good for {}s",
                    self.names.device(*device),
                    seconds(token.for_ms)
                )
            }
            Step::OtherToken { device } => {
                format!(
                    "{} shows a token of another user",
                    self.names.device(*device)
                )
            }
            Step::Storm {} => "everybody reconnects at once".to_owned(),
            Step::Pause { for_ms } => {
                format!("the server does nothing for {}s", seconds(*for_ms))
            }
            Step::NoDescriptors { for_ms } => {
                format!("the server accepts nobody for {}s", seconds(*for_ms))
            }
            Step::Clock { ahead_ms, drift_ms } => format!(
                "the server's wall clock is {ahead_ms} ms ahead, and drifts by {drift_ms} ms an hour"
            ),
            Step::Publish {
                publisher,
                to,
                kind,
                insists,
                ..
            } => {
                self.published += 1;
                if *insists {
                    self.insisted.insert(*publisher, self.published);
                }
                let what = match kind {
                    Kind::Note {} => "note:added".to_owned(),
                    Kind::Ephemeral { key: None } => "an ephemeral note:typing".to_owned(),
                    Kind::Ephemeral { key: Some(key) } => {
                        format!("an ephemeral note:typing of key{key}")
                    }
                    Kind::Life { event } => format!("task:{event}"),
                };
                let to = match to {
                    Target::Bus {} => "the bus".to_owned(),
                    Target::User { user } => format!("user:{user}"),
                    Target::Task { task, users } => {
                        let users = users.iter().map(|user| format!(", user:{user}"));
                        format!("task:{task}{}", users.collect::<String>())
                    }
                };
                format!(
                    "back end {publisher} publishes {what} to {to}: {}",
                    self.published()
                )
            }
            Step::Repeat { publisher, lies } => {
                let Some(first) = self.insisted.get(publisher).copied() else {
                    return format!("back end {publisher} has nothing to repeat");
                };
                self.published += 1;
                let content = if *lies { " with other content" } else { "" };
                format!(
                    "back end {publisher} publishes p{publisher}-{first} once more{content}: {}",
                    self.published()
                )
            }
            Step::Disconnect { user } => {
                self.published += 1;
                format!("back end 0 disconnects user {user}: {}", self.published())
            }
            Step::Break { device, how } => {
                let towards = |up| if up { "to the server" } else { "to it" };
                let what = match how {
                    Fault::Reset {} => "is reset".to_owned(),
                    Fault::BlackHole {} => "swallows everything from now on".to_owned(),
                    Fault::OneWay { up } => format!("swallows what goes {}", towards(*up)),
                    Fault::Cut { up, after_bytes } => format!(
                        "is cut after {after_bytes} more bytes that go {}",
                        towards(*up)
                    ),
                    Fault::Clog {} => "clogs".to_owned(),
                    Fault::Stall { up, for_ms } => {
                        format!("holds what goes {} for {}s", towards(*up), seconds(*for_ms))
                    }
                };
                format!("the line of {} {what}", self.names.device(*device))
            }
            Step::Weather { network } => format!("all lines: {}", weather(network)),
            Step::Crash {} => "the server crashes".to_owned(),
            Step::PowerCut { loses } => {
                format!("the server's machine loses power: {}", disk::loss(*loses))
            }
            Step::BadDisk { how } => disk::story(*how),
            Step::Drain {} => "the server drains, and starts again".to_owned(),
            #[allow(
                unreachable_patterns,
                reason = "steps that come with other parts of a world"
            )]
            other => serde_json::to_string(other).unwrap_or_default(),
        }
    }

    /// What the answer to the last publish was.
    fn published(&self) -> String {
        let outcome = self.publishes.get(&self.published);
        outcome.map_or_else(|| "not answered yet".to_owned(), Clone::clone)
    }

    /// Whether a device is connected just before a moment.
    fn is_there(&self, device: usize, at_ms: u64) -> bool {
        let seen = self.devices.get(&device).into_iter().flatten();
        let before = seen.take_while(|it| it.time.as_millis() < at_ms);
        let changes = before.filter_map(|it| match it.seen {
            Seen::Opened { .. } => Some(true),
            Seen::Closed { .. } | Seen::Leaves { .. } => Some(false),
            _ => None,
        });
        changes.last().unwrap_or(false)
    }

    fn connect(&self, number: usize, at_ms: u64, device: usize, with: Since) -> String {
        let name = self.names.device(device);
        if self.is_there(device, at_ms) {
            return format!("{name} is to connect, and is there");
        }
        let mut seen = self.devices.get(&device).into_iter().flatten();
        let later = self.plan.steps.iter().skip(number + 1);
        let until = later
            .filter(|timed| match timed.step {
                Step::Connect { device: of, .. } | Step::Leave { device: of, .. } => of == device,
                _ => false,
            })
            .map(|timed| timed.at_ms)
            .next();
        let come = seen.find(|it| {
            let at = it.time.as_millis();
            let is_answer = matches!(it.seen, Seen::Opened { .. } | Seen::Refused { .. });
            is_answer && at >= at_ms && until.is_none_or(|until| at <= until)
        });
        match come.map(|it| &it.seen) {
            Some(Seen::Opened { conn, since, .. }) => {
                let again = if conn.number > 1 {
                    "reconnects"
                } else {
                    "connects"
                };
                if since.is_empty() {
                    return format!("{name} {again}, and names no position");
                }
                let since: Vec<String> =
                    since.iter().map(|(room, at)| position(room, at)).collect();
                format!("{name} {again} from {}", since.join(" and "))
            }
            Some(Seen::Refused { status, .. }) => {
                format!("{name} connects, and is refused: {status}")
            }
            _ => {
                let from = match with {
                    Since::Positions => "from where it was",
                    Since::Nothing => "without a position",
                    Since::Old => "from where it was long ago",
                    Since::Garbage => "from what is no position",
                    Since::Foreign => "from a position of another server",
                    Since::Future => "from a position beyond the end",
                };
                format!(
                    "{name} connects {from}, and does not get through before it is told something else"
                )
            }
        }
    }

    /// What a device says to the server: the message, where it left at this moment.
    fn operation(&self, device: usize, at_ms: u64, op: &str, plainly: &str) -> String {
        let name = self.names.device(device);
        let seen = self.devices.get(&device).into_iter().flatten();
        let said = seen
            .filter(|it| it.time.as_millis() == at_ms)
            .find_map(|it| match &it.seen {
                Seen::Said { text, .. } => {
                    let said: Value = serde_json::from_str(text).unwrap_or_default();
                    (said["op"] == op).then_some(said)
                }
                _ => None,
            });
        match said {
            None if self.is_there(device, at_ms) => format!("{name} {plainly}, when it can"),
            None => format!("{name} {plainly}, and is not connected"),
            Some(said) => {
                let detail = match op {
                    "ack" => format!(" ({})", said["seq"]),
                    "read" => format!(" ({})", said["up_to"]),
                    "join" => match (
                        said["since"]["epoch"].as_str(),
                        said["since"]["seq"].as_u64(),
                    ) {
                        (Some(epoch), Some(seq)) => format!(" (@{epoch}:{seq})"),
                        _ => " (none is known)".to_owned(),
                    },
                    _ => String::new(),
                };
                format!("{name} {plainly}{detail}")
            }
        }
    }
}

fn last(behind: i64) -> String {
    match behind {
        0 => "up to the last that it has".to_owned(),
        1.. => format!("up to {behind} before the last that it has"),
        ..0 => format!("{} beyond the last that it has", behind.unsigned_abs()),
    }
}

fn position(room: &str, at: &Place) -> String {
    format!("{room}@{}:{}", at.epoch, at.seq)
}

fn weather(network: &Network) -> String {
    let [from, to] = network.latency_ms;
    let chopped = if network.chopped {
        ", chopped anywhere"
    } else {
        ""
    };
    format!(
        "{from} to {to} ms, {} bytes a ms, windows of {} bytes{chopped}",
        network.bytes_per_ms, network.window_bytes
    )
}

/// What became of a publish, as its publisher was told.
fn outcome(seen: &Seen) -> Option<(u64, String)> {
    match seen {
        Seen::Published {
            number,
            status: 200,
            body,
        } => {
            let rooms = body["rooms"].as_object().into_iter().flatten();
            let rooms: Vec<String> = rooms
                .map(|(room, at)| format!("{room} has it as {}", at["seq"]))
                .collect();
            let again = if body["duplicate"] == true {
                "was there, "
            } else {
                ""
            };
            let rooms = if rooms.is_empty() {
                "answered 200".to_owned()
            } else {
                rooms.join(", ")
            };
            Some((*number, format!("{again}{rooms}")))
        }
        Seen::Published { number, status, .. } => Some((*number, format!("answered {status}"))),
        Seen::Unanswered { number } => Some((*number, "no answer".to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::generate;
    use crate::plan::{Bounds, Device, Endpoint};

    #[test]
    fn each_step_is_told_with_what_came_of_it() {
        let mut plan = generate(1);
        plan.world.network = Network::CALM;
        plan.world.limits = Bounds::default();
        plan.world.publishers = 1;
        plan.world.tasks = 1;
        let phone = Device {
            user: 4,
            name: Some("phone".to_owned()),
            endpoint: Endpoint::Notifications {},
            given_up: false,
            shipped: false,
        };
        plan.world.devices = vec![phone];
        let (device, publisher) = (0, 0);
        let steps = [
            Step::Ack { device, behind: 0 },
            Step::Connect {
                device,
                with: Since::Nothing,
            },
            Step::Publish {
                publisher,
                to: Target::User { user: 4 },
                kind: Kind::Note {},
                bytes: 0,
                insists: true,
                dies: false,
                notify: None,
            },
            Step::Repeat {
                publisher,
                lies: false,
            },
            Step::Ack { device, behind: 0 },
            Step::Leave {
                device,
                in_order: true,
            },
            Step::Connect {
                device,
                with: Since::Positions,
            },
            Step::Connect {
                device,
                with: Since::Positions,
            },
            Step::Crash {},
        ];
        let times = (0..).step_by(100);
        plan.steps = times
            .zip(steps)
            .map(|(at_ms, step)| Timed { at_ms, step })
            .collect();
        plan.check().unwrap();
        let (told, report) = tell(&plan);
        assert_eq!(report.failure, None);
        // The epoch is drawn.
        let epoch = told[6].split(['@', ':']).nth(2).unwrap().to_owned();
        let expected = [
            "t=0.000s phone of user 4 acknowledges up to the last that it has, and is not connected",
            "t=0.100s phone of user 4 connects, and names no position",
            "t=0.200s back end 0 publishes note:added to user:4: user:4 has it as 1",
            "t=0.300s back end 0 publishes p0-1 once more: was there, user:4 has it as 1",
            "t=0.400s phone of user 4 acknowledges up to the last that it has (1)",
            "t=0.500s phone of user 4 leaves in order",
            &format!("t=0.600s phone of user 4 reconnects from user:4@{epoch}:1"),
            "t=0.700s phone of user 4 is to connect, and is there",
            "t=0.800s the server crashes",
        ];
        assert_eq!(told, expected);
    }
}
