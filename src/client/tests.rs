use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(20);

fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Answers each request with its own body; every connection is closed after `each` requests. Counts connections.
fn echo(listener: UnixListener, each: usize) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = BufReader::new(stream);
            for _ in 0..each {
                let (mut line, mut length) = (String::new(), 0);
                while stream.read_line(&mut line).await.unwrap() > 2 {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                stream
                    .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes())
                    .await
                    .unwrap();
                stream.write_all(&body).await.unwrap();
            }
        }
    });
    connections
}

async fn ask(client: &Client, body: &[u8]) -> Vec<u8> {
    let reply = client.request(Method::POST, "/v1/open", Some(SecretBytes::copy_of(body))).await.unwrap();
    reply.body.expose().to_vec()
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_a_closed_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let kept = echo(UnixListener::bind(&path).unwrap(), 3);
    let client = Client::connect(&path, us(), TIMEOUT).await.unwrap();
    let large = vec![7; 300_000];
    assert_eq!(ask(&client, b"one").await, b"one");
    assert_eq!(ask(&client, &large).await, large);
    assert_eq!(ask(&client, b"").await, b"");
    assert_eq!(kept.load(Ordering::SeqCst), 1);
    assert_eq!(ask(&client, b"four").await, b"four");
    assert_eq!(kept.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_socket_without_a_listener_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let told = |error: ClientError| format!("{error}");
    assert!(told(Client::connect(&path, us(), TIMEOUT).await.err().unwrap()).contains("there is no keyward at"));
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect(&path, us(), TIMEOUT).await, Err(ClientError::NotRunning(_))));
}

#[tokio::test]
async fn nothing_is_sent_to_a_listener_of_another_user() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let found = Client::connect(&path, us() + 1, TIMEOUT).await;
    // Root may serve anybody: as root this test can only show that.
    match us() {
        0 => assert!(found.is_ok()),
        _ => assert!(matches!(found, Err(ClientError::WrongServer { .. }))),
    }
}

#[tokio::test]
async fn a_listener_that_never_answers_ends_in_a_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let client = Client::connect(&path, us(), Duration::from_millis(20)).await.unwrap();
    assert!(matches!(client.request(Method::GET, "/", None).await, Err(ClientError::TimedOut(_))));
    assert!(matches!(client.request(Method::GET, "a b", None).await, Err(ClientError::Request(_))));
}
