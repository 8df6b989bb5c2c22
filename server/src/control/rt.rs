//! The control thread's runtime: run, spawn, listen, read, write, sleep, and a bounded channel into the thread.
//!
//! The only file that names monoio. Everything else in `control` speaks through the names here, so another
//! single-threaded runtime can take its place without a change elsewhere.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};

/// Entries of the control thread's own ring; it serves a few pages, not clients.
const RING_ENTRIES: u32 = 256;
/// Accepted connections the kernel may hold for us until we take them.
const ACCEPT_BACKLOG: i32 = 128;
/// How long a bind waits for a taken port to become free.
const BIND_WAIT_MAX: Duration = Duration::from_secs(2);

/// Runs `future` on this thread until it is done, on a ring where the host allows one and on epoll where not.
///
/// # Errors
/// When neither can be set up.
pub(crate) fn run<F: Future>(future: F) -> io::Result<F::Output> {
    let builder = monoio::RuntimeBuilder::<monoio::FusionDriver>::new().with_entries(RING_ENTRIES).enable_timer();
    Ok(builder.build()?.block_on(future))
}

/// Lets `task` go on beside the caller on this thread. It ends with the runtime at the latest.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    // A dropped join handle lets the task run on.
    drop(monoio::spawn(task));
}

/// Waits for `duration` to pass.
pub(crate) async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// The answer of `future`, or `None` and the end of `future` when it takes longer than `limit`.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    monoio::time::timeout(limit, future).await.ok()
}

/// A bound TCP listener. Another process cannot bind the same port while it lives.
pub(crate) struct Listener {
    inner: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// What `bind` said, as `AddrInUse` or `PermissionDenied`.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let options = ListenerOpts::new().reuse_port(false).backlog(ACCEPT_BACKLOG);
        let last_try = Instant::now() + BIND_WAIT_MAX;
        let inner = loop {
            match TcpListener::bind_with_config(address, &options) {
                // A predecessor's ring, and the port with it, goes a moment after its process.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < last_try => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                bound => break bound?,
            }
        };
        let address = inner.local_addr()?;
        Ok(Listener { inner, address })
    }

    /// The address really bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        let (inner, _peer) = self.inner.accept().await?;
        Ok(Stream { inner })
    }
}

/// One TCP connection. Buffers are lent by value and come back, because the ring holds them meanwhile.
pub(crate) struct Stream {
    inner: TcpStream,
}

impl Stream {
    /// Reads what there is, at most `buffer`'s capacity, into its beginning; 0 bytes means the peer is done.
    pub(crate) async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        self.inner.read(buffer).await
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.inner.write_all(bytes).await.0.map(drop)
    }

    /// Tells the peer that nothing more will come.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.inner.shutdown().await
    }
}

/// A queue of at most `capacity` items, written from any thread, read by one task of the control thread.
pub(crate) fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(Queue { items: VecDeque::with_capacity(capacity), capacity, reader: None }));
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

struct Queue<T> {
    items: VecDeque<T>,
    capacity: usize,
    reader: Option<Waker>,
}

/// The end of a [`channel`] that any thread may write to.
pub(crate) struct Sender<T> {
    shared: Arc<Mutex<Queue<T>>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Sender<T> {
    /// Queues `item`, or gives it back when the queue is full. Never waits for the reader.
    pub(crate) fn send(&self, item: T) -> Result<(), T> {
        let mut queue = lock(&self.shared);
        if queue.items.len() == queue.capacity {
            return Err(item);
        }
        queue.items.push_back(item);
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }
}

/// The end of a [`channel`] that the control thread reads.
pub(crate) struct Receiver<T> {
    shared: Arc<Mutex<Queue<T>>>,
}

impl<T> Receiver<T> {
    /// The next item, waiting for one if need be.
    pub(crate) async fn next(&mut self) -> T {
        std::future::poll_fn(|cx| {
            let mut queue = lock(&self.shared);
            match queue.items.pop_front() {
                Some(item) => Poll::Ready(item),
                None => {
                    queue.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// The queue stays whole at every step, so a writer that panicked elsewhere has not torn it.
fn lock<T>(shared: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_channel_carries_items_from_another_thread_in_order() {
        let (sender, mut receiver) = channel(4);
        let writer = std::thread::spawn(move || {
            for item in 0..100 {
                let mut unsent = item;
                while let Err(back) = sender.send(unsent) {
                    unsent = back;
                    std::thread::yield_now();
                }
            }
        });
        let items = run(async move {
            let mut items = Vec::new();
            while items.len() < 100 {
                items.push(receiver.next().await);
            }
            items
        });
        writer.join().expect("the writer ends");
        assert_eq!(items.expect("a runtime"), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_channel_gives_the_item_back() {
        let (sender, _receiver) = channel(1);
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(sender.send(2), Err(2));
    }

    #[test]
    fn within_ends_what_takes_too_long() {
        let begin = Instant::now();
        let outcome = run(within(Duration::from_millis(20), sleep(Duration::from_secs(60)))).expect("a runtime");
        assert!(outcome.is_none());
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_bound_port_is_not_shared() {
        let outcome = run(async {
            let first = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            Listener::bind(first.address()).map(drop)
        });
        assert_eq!(outcome.expect("a runtime").map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse));
    }
}
