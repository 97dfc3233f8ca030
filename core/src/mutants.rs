//! Deliberate faults, planted one at a time. They exist only where `--cfg fanfare_mutants` is set: whoever judges this
//! code has to find each of them, or a judge is missing.

use std::sync::atomic::{AtomicUsize, Ordering};

macro_rules! mutants {
    ($($mutant:ident $name:literal: $what:literal,)*) => {
        /// A deliberate fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $what] $mutant,)*
        }

        impl Mutant {
            /// All of them. The last seven are not found within 70 seeds.
            pub const ALL: &[Self] = &[$(Self::$mutant,)*];

            /// What it is called on the command line and in tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$mutant => $name,)* }
            }

            /// What is wrong with it.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$mutant => $what,)* }
            }
        }
    };
}

mutants! {
    ReplayRepeats "replay_repeats": "a resume begins with the event that the client has",
    GapUntold "gap_untold": "what a resume can't bring any more is not told",
    SlowGapUntold "slow_gap_untold": "what a client that reads too late has lost is not told",
    ForeignEpochRecovered "foreign_epoch_recovered": "a position of another epoch counts as one of this",
    FutureRecovered "future_recovered": "a position beyond the last event counts as recovered",
    LiveBeforeReplay "live_before_replay": "a live event does not wait for what is still replayed",
    OverflowForgotten "overflow_forgotten": "what an outbox has no room for is not read from the log later",
    MemberSkipped "member_skipped": "the last of four or more members of a task gets no live events",
    LeaveKeepsMember "leave_keeps_member": "who leaves a room gets what comes in it",
    GoodbyeKeepsMember "goodbye_keeps_member": "who is told goodbye still gets events",
    NeighbourToo "neighbour_too": "what is for one user goes to the one with the next number too",
    RenewalKeepsRooms "renewal_keeps_rooms": "a new token that names fewer tasks takes no room away",
    AnotherNumber "another_number": "a publisher is answered with the number behind its event's",
    EpochIsFixed "epoch_is_fixed": "every life of a server without a store has the same epoch",
    ForgottenKeepsEpoch "forgotten_keeps_epoch": "a room that was put out of memory begins anew in its old epoch",
    EvictionUntold "eviction_untold": "members of a room that was put out of memory are not told",
    TrimTakesOneMore "trim_takes_one_more": "a log keeps an event less than it should",
    HistorySkipsLast "history_skips_last": "a page of history leaves out its last event",
    IdsForgottenEarly "ids_forgotten_early": "only the last two ids are remembered",
    OtherContentTaken "other_content_taken": "an id with other content is answered as a retry",
    RetryUnsaid "retry_unsaid": "a retry is answered as if it were the first",
    SecondEndTaken "second_end_taken": "a task that has ended ends again",
    SnapshotBehind "snapshot_behind": "who joins is told the state before the last event",
    DeletedStaysJoined "deleted_stays_joined": "who watches a task that is deleted is not told to have left it",
    CursorGoesBack "cursor_goes_back": "an ack of less moves a cursor back",
    AckUnchecked "ack_unchecked": "an ack beyond what was sent is taken",
    DeviceBeginsAtHead "device_begins_at_head": "a device that comes back gets nothing of what came meanwhile",
    AckUnanswered "ack_unanswered": "an ack has no reply",
    JoinAnsweredTwice "join_answered_twice": "a join has two replies",
    ReadUntold "read_untold": "what one device read is not told to the others",
    ReadLeavesOne "read_leaves_one": "reading leaves the oldest unread",
    SilentCounts "silent_counts": "an event with `notify: false` counts as unread",
    DeadStayOpen "dead_stay_open": "a connection that answers no ping is kept",
    FsyncForgotten "fsync_forgotten": "a commit is answered when it is written, not when it is on the disk",
    RecoveryStopsEarly "recovery_stops_early": "the last commit in the log is not found at a start",
    RowSkipped "row_skipped": "the first row of each table is left out when the log goes to the tables",
    StoredIdsForgotten "stored_ids_forgotten": "ids in the store are not looked at",
    StoredCursorsForgotten "stored_cursors_forgotten": "devices in the store are not looked at",
    StoredUnreadForgotten "stored_unread_forgotten": "what the store has as unread is not looked at",
    ResumesTooLate "resumes_too_late": "the client that ships comes back from behind the next event",
    GapKeptBack "gap_kept_back": "the client that ships does not hand a gap on",
    BusGapUntold "bus_gap_untold": "a back end on the bus is not told what it missed",
    BusLeavesRoomOut "bus_leaves_room_out": "an event's first room is not named on the bus",
    StrangerTaken "stranger_taken": "a connection takes another user's token as a renewal",
    PageNeverAsked "page_never_asked": "who catches up in two rooms and is told a gap in one is not sent the other's page",
    ShownUnsafe "shown_unsafe": "a store that finds its disk full shows what a process before wrote and did not sync",
    TokenNeverEnds "token_never_ends": "a connection outlives its token",
    EvictionToldLate "eviction_told_late": "members of a room that was put out of memory are told after the event that put it out",
    PingsUnanswered "pings_unanswered": "the `ping` operation has no reply",
    ShortWriteRepeats "short_write_repeats": "what a socket took of a frame is written again",
    LengthOff "length_off": "a frame of exactly 126 bytes has the header of a shorter one",
    FailureGoesOn "failure_goes_on": "after a failed fsync the store takes more",
    FullCountsAsKept "full_counts_as_kept": "what a full disk did not take is answered as kept",
}

/// One more than the index of the one that is planted; 0 where none is.
static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// Plants this one, in the whole process, and takes out what was planted before.
pub fn plant(mutant: Option<Mutant>) {
    let number = mutant.map_or(0, |mutant| mutant as usize + 1);
    PLANTED.store(number, Ordering::Relaxed);
}

/// Whether it is planted now.
#[must_use]
pub fn is_planted(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) == mutant as usize + 1
}
