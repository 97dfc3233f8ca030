//! A subscriber of the bus in the same process.

use std::pin::Pin;
use std::task::{Context, Poll};

use fanfare_core::{Delivery, SubscriptionId};
use futures::Stream;

use crate::{Native, Platform, Shard};

/// What the bus has for one subscriber, as a stream. What waits for it is bounded in the hub; after
/// [`Delivery::Overrun`] the stream is at its end. Dropping it unsubscribes.
///
/// ```no_run
/// # async fn watch(shard: fanfare_websocket::Shard) -> Result<(), fanfare_core::Error> {
/// use futures::StreamExt;
/// let mut tasks = shard.subscribe(vec!["task:*".parse()?])?;
/// while let Some(delivery) = tasks.next().await {
///     println!("{delivery:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription<P: Platform = Native> {
    shard: Shard<P>,
    id: SubscriptionId,
    overrun: bool,
}

impl<P: Platform> Subscription<P> {
    pub(crate) const fn new(shard: Shard<P>, id: SubscriptionId) -> Self {
        Self {
            shard,
            id,
            overrun: false,
        }
    }
}

impl<P: Platform> Stream for Subscription<P> {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if self.overrun {
            return Poll::Ready(None);
        }
        let next = self.shard.poll_subscription(self.id, cx);
        self.overrun = matches!(next, Poll::Ready(Delivery::Overrun));
        next.map(Some)
    }
}

impl<P: Platform> Drop for Subscription<P> {
    fn drop(&mut self) {
        self.shard.unsubscribe(self.id);
    }
}
