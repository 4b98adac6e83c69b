//! The one call that a login by Kubernetes makes of a cluster, TokenReview, answered for one service account. The server
//! that asks is a real one; a cluster does not run here.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its endpoint must fail")]
#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// `system:serviceaccount:clinic:keyward`
pub const NAMESPACE: &str = "clinic";
pub const ACCOUNT: &str = "keyward";
const UID: &str = "7c1d7a3e-2a51-4c53-9f6f-0f8f3a4f1a11";

/// A JWT as the kubelet writes it. Who asks leaves its signature to the review, so this one has none that holds.
pub fn jwt(mark: &str) -> String {
    let header = json!({"alg": "RS256", "kid": mark});
    let account = json!({"namespace": NAMESPACE, "serviceaccount": {"name": ACCOUNT, "uid": UID}});
    let claims = json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}"),
        "kubernetes.io": account,
        "iat": 1_700_000_000_u64, "nbf": 1_700_000_000_u64, "exp": 4_000_000_000_u64,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&header), part(&claims), URL_SAFE_NO_PAD.encode(mark))
}

/// Answers reviews until the process ends; the address. Only this JWT is a service account's.
pub fn serve(known: String) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the other side's affair.
            let _answered = answer(stream, &known);
        }
    });
    address
}

fn answer(stream: TcpStream, known: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line)?;
    let is_review = line.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews ");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line)?;
        if let Some(given) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = given.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let status = if is_review && asked["spec"]["token"] == known {
        let user = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
        json!({"authenticated": true, "user": {"username": user, "uid": UID, "groups": ["system:serviceaccounts"]}})
    } else {
        json!({"authenticated": false, "error": "unknown"})
    };
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}).to_string();
    let head = format!(
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}",
        body.len()
    );
    write!(stream.get_mut(), "{head}\r\n\r\n{body}")
}
