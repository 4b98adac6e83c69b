//! Who holds a connection? One thread each, fed by a bounded queue, so that a slow disk never blocks the runtime.

use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::clock::BoxFuture;
use crate::store::StoreError;

/// More waiting calls than this and callers wait to queue; commits are rare and images rarer.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// A connection and the error after which it is not used again.
struct Desk {
    connection: Connection,
    closed: Option<String>,
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
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (ready, is_ready) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || match connect() {
            Ok(connection) => {
                // Nobody waits any more when the opening was abandoned; then the queue is closed too.
                let _abandoned = ready.send(Ok(()));
                serve(Desk { connection, closed: None }, queue);
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

fn serve(mut desk: Desk, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        job(&mut desk);
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("its thread has ended".to_owned())
}
