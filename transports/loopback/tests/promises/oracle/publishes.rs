//! Publishes: which answers they may get, and what is an event from then on.

use super::Oracle;
use crate::history::{Fact, Mark};
use fanfare_core::{Error, Publish, Receipt, Retention, RoomId, StoreFailure, Target, Ticket};
use fanfare_loopback::Restart;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A publish that is not answered yet.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) publish: Publish,
    /// Where its rooms stood when it began.
    pub(super) heads: BTreeMap<RoomId, u64>,
    /// What was under way for a part of the same time.
    pub(super) beside: Vec<Publish>,
}

/// What became of an id.
#[derive(Debug, Clone)]
pub(super) struct Used {
    pub(super) content: Value,
    /// The answer, where there was one.
    pub(super) receipt: Option<Receipt>,
    /// A crash may have undone it, and nothing shows whether.
    pub(super) unsure: bool,
}

impl Oracle {
    pub(super) fn begins(&mut self, ticket: Ticket, publish: &Publish) {
        let rooms = rooms(&publish.target).into_iter();
        let heads = rooms.map(|room| (room, self.history.room(room).head()));
        let heads = heads.collect();
        for flight in self.flying.values_mut() {
            flight.beside.push(publish.clone());
        }
        let others = self.flying.values();
        let beside = others.map(|flight| flight.publish.clone()).collect();
        let flight = Flight {
            publish: publish.clone(),
            heads,
            beside,
        };
        self.flying.insert(ticket, flight);
    }

    /// *Atomic publish*, *Retried is not doubled*, *Terminal is terminal*.
    pub(super) fn published(
        &mut self,
        ticket: Ticket,
        result: &Result<Receipt, Error>,
    ) -> Result<(), String> {
        let flight = self.flying.remove(&ticket);
        let flight = flight.ok_or("an answer that nobody waits for")?;
        let publish = &flight.publish;
        if let Err(error) = result
            && let Some(mark) = self.may_not_take(error)
        {
            if error.code() == "unavailable" {
                self.doubtful.push(publish.clone());
            }
            self.mark(mark);
            return Ok(());
        }
        let fact = fact_of(publish)?;
        let content = content_of(publish);
        let id = publish.draft.id.as_ref().map(ToString::to_string);
        let shares_id = |it: &&Publish| it.draft.id.is_some() && it.draft.id == publish.draft.id;
        if let Some(used) = id.as_ref().and_then(|id| self.ids.get(id)).cloned()
            && let Some(answer) = again(&used, &content, result)
        {
            if flight.beside.iter().any(|it| shares_id(&it)) {
                self.mark("two of one id under way");
            }
            self.mark(if used.content == content {
                "a retry"
            } else {
                "an id reused"
            });
            return answer;
        }
        let is_reused = |error: &Error| error.code() == "id_reused";
        if result.as_ref().is_err_and(is_reused)
            && flight
                .beside
                .iter()
                .any(|it| shares_id(&it) && content_of(it) != content)
        {
            return Ok(());
        }
        if !self.lives_on(&flight, &fact.kind, result)? {
            return Ok(());
        }
        let receipt = result
            .as_ref()
            .map_err(|error| format!("refused: {error}"))?;
        if receipt.duplicate() {
            return Err("a first publish is no duplicate".to_owned());
        }
        let answered: BTreeSet<RoomId> = receipt.rooms().iter().map(|it| it.room).collect();
        if answered != fact.rooms {
            return Err("the answer names other rooms".to_owned());
        }
        let mark = mark_of(&fact.data)?;
        let fact = Fact {
            id: receipt.id().to_string(),
            ..fact
        };
        for room in receipt.rooms() {
            self.history.epoch(room.room, &room.epoch.to_string())?;
            let before = flight.heads.get(&room.room).copied().unwrap_or_default();
            let seq = room.seq.number();
            if fact.ephemeral {
                self.stood.push((room.room, before, seq));
            } else if seq <= before {
                return Err(format!("{} stood at {before} already", room.room));
            } else {
                self.history.number(room.room, seq, mark)?;
            }
        }
        if fact.ephemeral && self.history.facts.contains_key(&mark) {
            self.history.anew.insert(mark);
            self.witnessed.remove(&mark);
        }
        self.takes(mark, fact);
        if let Some(id) = id {
            let used = Used {
                content,
                receipt: Some(receipt.clone()),
                unsure: false,
            };
            self.ids.insert(id, used);
        }
        Ok(())
    }

    /// Whether the server may refuse anything now, as what that counts.
    fn may_not_take(&self, error: &Error) -> Option<&'static str> {
        match error.code() {
            "store_full" if self.commit_failed == Some(StoreFailure::Full) => {
                Some("a publish refused by a full disk")
            }
            "unavailable" if self.commit_failed == Some(StoreFailure::Failed) => {
                Some("a publish refused by a store that failed")
            }
            "unavailable" if self.read_failed => Some("a read of the store that failed"),
            "draining" if self.ends == Some(Restart::Orderly) => Some("an orderly end"),
            _ => None,
        }
    }

    /// Whether the event is taken, as far as the life of its task goes.
    fn lives_on(
        &mut self,
        flight: &Flight,
        kind: &str,
        result: &Result<Receipt, Error>,
    ) -> Result<bool, String> {
        let Target::Task { task, .. } = &flight.publish.target else {
            return Ok(true);
        };
        // What is under way may lead there too, or not.
        let beside = flight.beside.iter().any(|it| match &it.target {
            Target::Task { task: other, .. } => {
                other == task && it.draft.kind.as_str().starts_with("task:")
            }
            Target::User(_) | Target::Bus => false,
        });
        let is_refused = |error: &Error| matches!(error.code(), "lifecycle" | "gone");
        let life = self.lives.entry(*task).or_default();
        match (life.after(kind), result) {
            (Some(after), Ok(_)) => {
                *life = after;
                Ok(true)
            }
            (None, Err(error)) if is_refused(error) => {
                self.mark("a lifecycle refusal");
                Ok(false)
            }
            (Some(_), Err(error)) if beside && is_refused(error) => {
                self.mark("a lifecycle refusal under way");
                Ok(false)
            }
            (Some(_), Err(error)) if !is_refused(error) => Ok(true),
            _ => Err(format!("the task was {life:?}")),
        }
    }

    /// It is an event from here on.
    pub(super) fn takes(&mut self, mark: Mark, fact: Fact) {
        if fact.kind == "task:deleted" {
            self.mark("a deletion");
            for room in &fact.rooms {
                if matches!(room, RoomId::Task(_)) {
                    self.history.room(*room).deleted = true;
                }
            }
        }
        self.history.facts.insert(mark, fact);
        self.accepted.insert(mark);
    }
}

/// Whether a publish under an id that was used is answered as promised; `None` where it is judged as a new one.
fn again(
    used: &Used,
    content: &Value,
    result: &Result<Receipt, Error>,
) -> Option<Result<(), String>> {
    let same = used.content == *content;
    let as_promised = match result {
        Ok(new) if used.unsure && !new.duplicate() => return None,
        Err(error) if used.unsure && error.code() != "id_reused" => return None,
        Ok(again) => {
            same && again.duplicate()
                && used
                    .receipt
                    .as_ref()
                    .is_none_or(|first| again.id() == first.id() && again.rooms() == first.rooms())
        }
        Err(error) => !same && error.code() == "id_reused",
    };
    let broken = || format!("the id was used: {used:?}");
    Some(as_promised.then_some(()).ok_or_else(broken))
}

/// Of an event that has no id yet.
pub(super) fn fact_of(publish: &Publish) -> Result<Fact, String> {
    let Publish { target, draft } = publish;
    Ok(Fact {
        kind: draft.kind.to_string(),
        data: serde_json::from_str(draft.data.as_str()).map_err(|error| error.to_string())?,
        from: None,
        ephemeral: draft.retention != Retention::Kept,
        rooms: rooms(target),
        id: draft
            .id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        notifies: notifies(publish),
    })
}

pub(super) fn content_of(Publish { target, draft }: &Publish) -> Value {
    json!([
        draft.kind,
        draft.data,
        format!("{:?}", draft.retention),
        format!("{target:?}")
    ])
}

/// As `docs/protocol.md` has it.
fn notifies(Publish { target, draft }: &Publish) -> bool {
    let by_itself = match target {
        Target::Bus => false,
        Target::User(_) => true,
        Target::Task { .. } => matches!(
            draft.kind.as_str(),
            "task:created" | "task:completed" | "task:failed" | "task:cancelled"
        ),
    };
    draft.retention == Retention::Kept && draft.notify.unwrap_or(by_itself)
}

fn rooms(target: &Target) -> BTreeSet<RoomId> {
    match target {
        Target::Task { task, users } => {
            let users = users.iter().copied().map(RoomId::User);
            users.chain([RoomId::Task(*task)]).collect()
        }
        Target::User(user) => [RoomId::User(*user)].into(),
        Target::Bus => BTreeSet::new(),
    }
}

pub(super) fn mark_of(data: &Value) -> Result<Mark, String> {
    data["mark"]
        .as_u64()
        .ok_or_else(|| "an event that no script has".to_owned())
}
