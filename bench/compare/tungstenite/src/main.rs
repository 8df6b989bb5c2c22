//! Peer "tungstenite": tokio and tokio-tungstenite, as much of an ordinary Rust server as there is. Raw dialect: every
//! message received is sent to every connection, the sender's included. Usage: fanfare-peer-tungstenite ADDRESS
//!
//! One thread, as it has one core: a task for each connection, which reads and writes, and a bounded queue for each. A
//! message is one buffer, shared by all queues; its frame header and a copy are made for each connection, which is what
//! the library offers. What waits in a queue leaves in one write.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
const BACKLOG: u32 = 4096;
/// Messages that may wait for one connection. One that is further behind is closed.
const QUEUE_MESSAGES_MAX: usize = 1024;

/// Everybody's queue, by number of the connection.
type Crowd = Rc<RefCell<HashMap<u64, mpsc::Sender<Message>>>>;

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1).and_then(|text| text.parse::<SocketAddr>().ok()) else {
        eprintln!("usage: fanfare-peer-tungstenite ADDRESS");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let served = runtime.and_then(|runtime| tokio::task::LocalSet::new().block_on(&runtime, serve(address)));
    if let Err(error) = served {
        eprintln!("tungstenite: {address}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn serve(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    println!("listening");
    let crowd = Crowd::default();
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        let crowd = crowd.clone();
        tokio::task::spawn_local(async move {
            // A vanished client ends its own connection, not the server.
            let _ = converse(stream, number, &crowd).await;
            crowd.borrow_mut().remove(&number);
        });
    }
    Ok(())
}

/// One connection, from the upgrade to its end.
async fn converse(stream: TcpStream, number: u64, crowd: &Crowd) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    let (queue, mut waiting) = mpsc::channel(QUEUE_MESSAGES_MAX);
    crowd.borrow_mut().insert(number, queue);
    loop {
        tokio::select! {
            // First what comes in: messages that arrived together then leave together.
            biased;
            message = socket.next() => match message.transpose()? {
                Some(message @ (Message::Text(_) | Message::Binary(_))) => publish(&message, crowd),
                Some(_) => {}
                None => return Ok(()),
            },
            message = waiting.recv() => {
                // Our own sender went when this connection fell too far behind.
                let Some(message) = message else { return Ok(()) };
                socket.feed(message).await?;
                while let Ok(message) = waiting.try_recv() {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
        }
    }
}

fn publish(message: &Message, crowd: &Crowd) {
    crowd.borrow_mut().retain(|_, queue| queue.try_send(message.clone()).is_ok());
}
