//! Takes events from the feed to the server, one after the other, as long as it takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use fanfare_core::{Draft, Payload, Publish, Retention, Target, TaskId, UserId};
use fanfare_websocket::client::{Api, Backoff, Error};

use super::feed::Event;
use super::notes::Notes;
use super::pump::Shared;
use crate::error::words;

/// The longest wait between two attempts while the command runs.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The same once it has ended and somebody waits for us.
const WAIT_AT_END_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Delivery {
    pub(crate) api: Api,
    pub(crate) task: TaskId,
    pub(crate) users: Vec<UserId>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) news: Receiver<()>,
    pub(crate) notes: Notes,
}

impl Delivery {
    /// Until everything was delivered, or it is certain that nothing will be.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut away = false;
        let mut told = BTreeSet::new();
        loop {
            let Some(event) = self.shared.peek(Instant::now()) else {
                if self.shared.with_quietly(|feed| feed.is_finished()) {
                    return;
                }
                self.until_news().await;
                continue;
            };
            let kind = event.kind;
            match self.publish(event).await {
                Ok(()) => {
                    self.shared
                        .with_quietly(|feed| feed.settled(Instant::now()));
                    backoff.reset();
                    if std::mem::take(&mut away) {
                        self.notes
                            .say("the server is back; what waited is being sent");
                    }
                }
                Err(error) if error.is_temporary() => {
                    if !std::mem::replace(&mut away, true) {
                        self.notes.warn(&format!(
                            "the command goes on, its events wait: {}",
                            words(&error)
                        ));
                    }
                    self.pause(backoff.next(fastrand::f64()), error.retry_after())
                        .await;
                }
                Err(error) => {
                    self.shared
                        .with_quietly(|feed| feed.settled(Instant::now()));
                    if is_already_created(kind, &error) {
                        continue;
                    }
                    let (code, hopeless) = refusal(&error);
                    if told.insert(code) {
                        let rest = if hopeless {
                            ", no more events are sent"
                        } else {
                            ""
                        };
                        self.notes.warn(&format!(
                            "the command goes on{rest}: {kind} was refused: {}",
                            words(&error)
                        ));
                    }
                    if hopeless {
                        return;
                    }
                }
            }
        }
    }

    async fn publish(&mut self, event: Event) -> Result<(), Error> {
        let unsendable = |error: fanfare_core::Error| Error::Unsendable(error.to_string());
        let retention = match event.key {
            Some(key) => Retention::Ephemeral {
                key: Some(key.parse().map_err(unsendable)?),
            },
            None => Retention::Kept,
        };
        let kind = event.kind.parse().map_err(unsendable)?;
        let data = Payload::parse(event.data.get()).map_err(unsendable)?;
        let id = Some(event.id.parse().map_err(unsendable)?);
        let target = Target::Task {
            task: self.task,
            users: self.users.clone(),
        };
        let publish = Publish {
            target,
            draft: Draft {
                id,
                retention,
                ..Draft::new(kind, data)
            },
        };
        self.api.publish(&publish).await.map(drop)
    }

    async fn until_news(&self) {
        let due = self.shared.with_quietly(|feed| feed.next_deadline());
        let news = async {
            let _ = self.news.recv().await;
        };
        match due {
            Some(due) => {
                smol::future::or(news, async {
                    async_io::Timer::at(due).await;
                })
                .await;
            }
            None => news.await,
        }
    }

    /// Waits before the next attempt; shortly, once the command has ended.
    async fn pause(&self, own: Duration, asked: Option<Duration>) {
        let from = Instant::now();
        let until = from + asked.unwrap_or_default().saturating_add(own.min(WAIT_MAX));
        loop {
            let ended = self.shared.with_quietly(|feed| feed.is_ended());
            let until = if ended {
                until.min(from + WAIT_AT_END_MAX)
            } else {
                until
            };
            if Instant::now() >= until {
                return;
            }
            let heard = async { self.news.recv().await.is_ok() };
            let timer = async {
                async_io::Timer::at(until).await;
                false
            };
            smol::future::or(timer, heard).await;
        }
    }
}

/// The back end that handed us the task has created it: as it should be.
fn is_already_created(kind: &str, error: &Error) -> bool {
    let Error::Refused(problem) = error else {
        return false;
    };
    let task = problem.members.get("task");
    kind == "task:created"
        && problem.code == "lifecycle"
        && task.is_some_and(|task| task["status"] == "created")
}

/// A word for the kind of refusal, each of which is told once, and whether every other event will meet it too.
fn refusal(error: &Error) -> (String, bool) {
    let Error::Refused(problem) = error else {
        return (error.to_string(), false);
    };
    (
        format!("{} {}", problem.status, problem.code),
        matches!(problem.status, 300..=399 | 401 | 403 | 404 | 405),
    )
}
