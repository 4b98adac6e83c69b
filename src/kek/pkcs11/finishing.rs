//! What becomes of a call whose caller has gone? It is finished in the background, so that its lane stays in step.
//! A task of its own for every call would do the same and cost two wake-ups each.

use std::pin::Pin;
use std::task::{Context, Poll};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that goes on in a task when it is dropped before its end.
pub(super) struct Finishing<T: Send + 'static>(Option<Boxed<T>>);

impl<T: Send + 'static> Finishing<T> {
    /// Wraps a future. To be dropped within a runtime; without one the future ends with its caller.
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<T: Send + 'static> Future for Finishing<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.0 else { return Poll::Pending };
        let result = future.as_mut().poll(context);
        if result.is_ready() {
            self.0 = None;
        }
        result
    }
}

impl<T: Send + 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        if let (Some(future), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _nobody_waits_any_more = future.await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_whose_caller_goes_is_finished_all_the_same() {
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut finishing = Finishing::new(async move {
            begun.await.unwrap();
            tell.send(7).unwrap();
        });
        assert!(futures_poll(&mut finishing).await.is_pending());
        drop(finishing);
        begin.send(()).unwrap();
        assert_eq!(told.await, Ok(7));
    }

    async fn futures_poll<T: Send + 'static>(finishing: &mut Finishing<T>) -> Poll<T> {
        std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *finishing).poll(context))).await
    }
}
