//! Where a panic was: the shard catches those of its tasks, so that only a hook sees what they said.

use std::cell::{Cell, RefCell};

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// From now on panics within a world are kept and not printed: the world fails, and its failure is told. Others are printed.
pub(crate) fn keep() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !WITHIN.get() {
            return print(panic);
        }
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

/// A world runs on this thread from now on, or no longer.
pub(crate) fn within(is_within: bool) {
    WITHIN.set(is_within);
}

/// The last one on this thread.
pub(crate) fn take() -> Option<String> {
    LAST.take()
}
