//! What each step of a plan does.

use std::rc::Rc;

use fanfare_core::Time;
use fanfare_loopback::task;
use serde_json::{Value, json};

use super::World;
use crate::device::Command;
use crate::fault;
use crate::history::Seen;
use crate::plan::{Kind, Step, Target};
use crate::publisher::Request;
use crate::tally;

impl World {
    pub(super) fn step(self: &Rc<Self>, step: &Step) {
        self.taken.set(self.taken.get() + 1);
        self.steps.borrow_mut().add(&tally::name(step), 1);
        if let Some(name) = fault::name(step) {
            self.net.fault(name, step.names().0);
        }
        match step {
            Step::Connect { device, with } => self.tell(*device, Command::Connect(*with)),
            Step::Leave { device, in_order } => {
                let in_order = *in_order;
                self.tell(*device, Command::Leave { in_order });
            }
            Step::Join { device, task, with } => self.tell(*device, Command::Join(*task, *with)),
            Step::Part { device, task } => self.tell(*device, Command::Part(*task)),
            Step::Ack { device, behind } => self.tell(*device, Command::Ack(*behind)),
            Step::Read { device, behind } => self.tell(*device, Command::Read(*behind)),
            Step::Send {
                device,
                task,
                ephemeral,
            } => {
                let (task, ephemeral) = (*task, *ephemeral);
                self.tell(*device, Command::Send { task, ephemeral });
            }
            Step::Babble { device, text } => self.tell(*device, Command::Babble(text.clone())),
            Step::Garble { device, how } => self.tell(*device, Command::Garble(*how)),
            Step::Chatter { device, count } => self.tell(*device, Command::Chatter(*count)),
            Step::StopReading { device } => self.tell(*device, Command::StopReading),
            Step::ResumeReading { device } => self.tell(*device, Command::ResumeReading),
            Step::ReadSlowly { device, every_ms } => {
                let every_ms = *every_ms;
                self.tell(*device, Command::ReadSlowly { every_ms });
            }
            Step::Background { device, for_ms } => {
                // Faults end with their time.
                let end = Time::from_millis(self.plan.world.faults_ms);
                let until = self.net.now().plus(*for_ms).min(end);
                self.tell(*device, Command::Background { until });
            }
            Step::HalfClose { device } => self.tell(*device, Command::HalfClose),
            Step::Token { device, token } => self.tell(*device, Command::Token(token.clone())),
            Step::OtherToken { device } => self.tell(*device, Command::OtherToken),
            Step::Storm {} => {
                for device in 0..self.devices.len() {
                    self.tell(device, Command::Return);
                }
            }
            Step::Unclog { device } => self.net.unclog(*device),
            Step::Pause { for_ms } => self.net.pause(*for_ms),
            Step::NoDescriptors { for_ms } => self.net.accept_nobody(*for_ms),
            Step::Clock { ahead_ms, drift_ms } => self.net.set_clock(*ahead_ms, *drift_ms),
            Step::Publish {
                publisher,
                to,
                kind,
                bytes,
                insists,
                dies,
                notify,
            } => {
                let mut request = self.request(*publisher, to, kind, *bytes, *insists);
                request.dies = *dies;
                if let Some(notify) = notify {
                    request.body["notify"] = json!(notify);
                }
                if *insists && let Some(last) = self.insisted.borrow_mut().get_mut(*publisher) {
                    *last = Some(request.clone());
                }
                self.send(*publisher, request);
            }
            Step::Repeat { publisher, lies } => {
                let last = self.insisted.borrow().get(*publisher).cloned().flatten();
                let Some(mut request) = last else { return };
                request.number = self.number();
                if *lies {
                    request.body["data"]["mark"] = json!(request.number);
                }
                self.send(*publisher, request);
            }
            Step::Disconnect { user } => {
                let number = self.number();
                self.net.observe(Seen::Disconnecting { user: *user });
                let request = Request {
                    number,
                    path: format!("/v1/users/{user}/disconnect"),
                    body: Value::Null,
                    insists: false,
                    dies: false,
                };
                self.send(0, request);
            }
            Step::Break { device, how } => self.net.break_line(*device, *how),
            Step::Weather { network } => self.net.weather(network.clone()),
            Step::Crash {} => self.crash(None),
            Step::PowerCut { loses } => self.crash(Some(*loses)),
            Step::BadDisk { how } => self.bad_disk(*how),
            Step::Drain {} => self.drain(),
        }
    }

    pub(super) fn tell(&self, device: usize, command: Command) {
        if let Some(sender) = self.devices.get(device) {
            // An unbounded channel takes it, and a device ends with the world.
            let _ = sender.try_send(command);
        }
    }

    pub(super) fn send(&self, publisher: usize, request: Request) {
        if let Some(sender) = self.publishers.get(publisher) {
            let _ = sender.try_send(request);
        }
    }

    fn number(&self) -> u64 {
        self.published.set(self.published.get() + 1);
        self.published.get()
    }

    pub(super) fn request(
        &self,
        publisher: usize,
        to: &Target,
        kind: &Kind,
        bytes: usize,
        insists: bool,
    ) -> Request {
        let number = self.number();
        let (path, rooms) = match to {
            Target::Task { task: of, users } => {
                let rooms = users.iter().map(|user| format!("user:{user}"));
                let rooms: Vec<String> = std::iter::once(format!("task:{}", task(*of)))
                    .chain(rooms)
                    .collect();
                (format!("/v1/tasks/{}/events", task(*of)), rooms)
            }
            Target::Bus {} => ("/v1/events".to_owned(), Vec::new()),
            Target::User { user } => (
                format!("/v1/users/{user}/events"),
                vec![format!("user:{user}")],
            ),
        };
        let mut body = json!({"data": {"mark": number, "to": rooms, "text": "x".repeat(bytes)}});
        if let Target::Task { users, .. } = to {
            body["users"] = json!(users);
        }
        if insists {
            body["id"] = json!(format!("p{publisher}-{number}"));
        }
        match kind {
            Kind::Note {} => body["type"] = json!("note:added"),
            Kind::Ephemeral { key } => {
                body["type"] = json!("note:typing");
                body["ephemeral"] = json!(true);
                if let Some(key) = key {
                    body["key"] = json!(format!("key{key}"));
                }
            }
            Kind::Life { event } => body["type"] = json!(format!("task:{event}")),
        }
        Request {
            number,
            path,
            body,
            insists,
            dies: false,
        }
    }
}
