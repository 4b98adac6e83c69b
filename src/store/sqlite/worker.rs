//! Who holds a connection? One thread each, fed by a bounded queue, so that a slow disk never blocks the runtime.

use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::clock::{BoxFuture, Clock, SystemClock};
use crate::store::StoreError;

/// More waiting calls than this and callers wait to queue; commits are rare and images rarer.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// A connection and the error after which it is not used again.
struct Desk {
    connection: Connection,
    closed: Option<String>,
}

/// How long a thread waits for work, and whose timers tell it.
struct Idle {
    runtime: Handle,
    limit: Duration,
}

/// A thread with a connection. It ends when the worker is dropped and the queue is empty.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread and waits until it has its connection.
    pub(super) async fn start(
        name: &str,
        connect: impl FnOnce() -> Result<Connection, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::begin(name, None, connect).await
    }

    /// The same, but the thread also ends, and its connection with it, when nobody has asked for anything for so long.
    pub(super) async fn start_until_idle(
        name: &str,
        limit: Duration,
        connect: impl FnOnce() -> Result<Connection, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::begin(name, Some(Idle { runtime: Handle::current(), limit }), connect).await
    }

    async fn begin(
        name: &str,
        idle: Option<Idle>,
        connect: impl FnOnce() -> Result<Connection, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (ready, is_ready) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || match connect() {
            Ok(connection) => {
                // Nobody waits any more when the opening was abandoned; then the queue is closed too.
                let _abandoned = ready.send(Ok(()));
                serve(Desk { connection, closed: None }, queue, idle.as_ref());
            }
            Err(error) => drop(ready.send(Err(error))),
        });
        thread.map_err(|error| StoreError::Unavailable(format!("no thread could be started: {error}")))?;
        is_ready.await.unwrap_or_else(|_| Err(ended()))?;
        Ok(Self { jobs })
    }

    /// Runs a read on the thread.
    pub(super) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        self.run(|desk| {
            work(&mut desk.connection).map_err(|error| match error {
                StoreError::Unsettled(detail) => StoreError::Unavailable(detail),
                other => other,
            })
        })
    }

    /// Runs a write on the thread; one whose end is unsettled is the last.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        self.run(|desk| desk.write(work))
    }

    /// Dropping the future does not stop work that has been queued.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let job: Job = Box::new(move |desk| drop(answer.send(work(desk))));
            self.jobs.send(job).await.map_err(|_| ended())?;
            answered.await.unwrap_or_else(|_| Err(ended()))
        })
    }
}

impl Desk {
    fn write<T>(&mut self, work: impl FnOnce(&mut Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(why) = &self.closed {
            return Err(StoreError::Unavailable(format!("closed after a failed write until a restart: {why}")));
        }
        let result = work(&mut self.connection);
        // After a failed sync the kernel may report the next one as good although pages were lost: never try again.
        if let Err(StoreError::Unsettled(why)) = &result {
            self.closed = Some(why.clone());
        }
        result
    }
}

fn serve(mut desk: Desk, mut queue: mpsc::Receiver<Job>, idle: Option<&Idle>) {
    while let Some(job) = next(&mut queue, idle) {
        job(&mut desk);
    }
}

/// None when nobody can ask any more, or nobody has for too long.
fn next(queue: &mut mpsc::Receiver<Job>, idle: Option<&Idle>) -> Option<Job> {
    let Some(Idle { runtime, limit }) = idle else { return queue.blocking_recv() };
    runtime.block_on(async {
        tokio::select! {
            // First: a queue that is closed has a runtime no longer, perhaps.
            biased;
            job = queue.recv() => job,
            () = SystemClock.sleep_until(SystemClock.mono().plus(*limit)) => None,
        }
    })
}

fn ended() -> StoreError {
    StoreError::Unavailable("its thread has ended".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_for_which_nobody_asks_any_more_is_given_up() {
        let open = || Ok(Connection::open_in_memory().unwrap());
        let limit = Duration::from_millis(200);
        let worker = Worker::start_until_idle("keyward-idle", limit, open).await.unwrap();
        worker.read(|_| Ok(())).await.unwrap();
        worker.jobs.closed().await;
        assert!(matches!(worker.read(|_| Ok(())).await, Err(StoreError::Unavailable(_))));
    }
}
