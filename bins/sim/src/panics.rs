//! Where a panic was: the shard catches those of its tasks, so that only a hook sees what they said.

use std::cell::RefCell;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics are kept and not printed: a world that has one fails, and its failure is told.
pub(crate) fn keep() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let words = payload.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| payload.downcast_ref::<&str>().copied());
        let place = panic.location().map(ToString::to_string);
        let told = format!(
            "{}: {}",
            place.unwrap_or_default(),
            words.unwrap_or("no words")
        );
        LAST.with_borrow_mut(|last| *last = Some(told));
    }));
}

/// The last one on this thread.
pub(crate) fn take() -> Option<String> {
    LAST.take()
}
