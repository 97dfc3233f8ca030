//! What the hub asks of the storage, and that it gets an answer whatever becomes of the asking.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::Waker;

use fanfare_core::{Input, Now};
use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::{Driver, State};
use crate::{Platform, Storage};

impl<P: Platform> Driver<P> {
    /// Has the storage do something, and hands the hub its answer; `failed`, if it never comes to one.
    pub(super) fn ask_storage(
        &self,
        state: &mut State<P::Stream>,
        now: Now,
        failed: Input,
        ask: impl FnOnce(&dyn Storage) -> LocalBoxFuture<'static, Input> + 'static,
    ) {
        let (executor, driver) = (self.executor.upgrade(), self.this.upgrade());
        let (Some(executor), Some(driver), Some(storage)) = (executor, driver, &self.storage)
        else {
            self.complete(state, now, failed);
            return;
        };
        let storage = Rc::clone(storage);
        let owed = Owed {
            driver,
            completion: Some(failed),
        };
        executor.spawn(owed.ask(storage, ask)).detach();
    }
}

/// A completion that the hub is owed. It comes also where the storage panics, and where the task is dropped before its end.
struct Owed<P: Platform> {
    driver: Rc<Driver<P>>,
    completion: Option<Input>,
}

impl<P: Platform> Owed<P> {
    async fn ask(
        mut self,
        storage: Rc<dyn Storage>,
        ask: impl FnOnce(&dyn Storage) -> LocalBoxFuture<'static, Input>,
    ) {
        let answer = AssertUnwindSafe(async move { ask(&*storage).await });
        match answer.catch_unwind().await {
            Ok(completion) => self.completion = Some(completion),
            Err(_) => {
                self.driver.state.borrow_mut().counters.panics += 1;
                tracing::error!("the store panicked; what was asked of it counts as failed");
            }
        }
    }
}

impl<P: Platform> Drop for Owed<P> {
    fn drop(&mut self) {
        let Some(completion) = self.completion.take() else {
            return;
        };
        let driver = &self.driver;
        let now = driver.platform.now();
        let mut state = driver.state.borrow_mut();
        driver.complete(&mut state, now, completion);
        driver.carry_out(&mut state, now);
        if !state.busy.is_empty() {
            driver.writable.writer.wake();
        }
        if state.commits == 0 {
            state.settling.drain(..).for_each(Waker::wake);
        }
    }
}
