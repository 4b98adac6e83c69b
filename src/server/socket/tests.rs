#![expect(clippy::disallowed_methods, reason = "these tests arrange files and modes by hand")]

use std::fs;

use super::*;

fn directory(mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    dir
}

#[tokio::test]
async fn a_socket_has_its_mode_and_no_draft_is_left() {
    for mode in [0o600, 0o660, 0o666] {
        let dir = directory(0o755);
        let path = dir.path().join("data.sock");
        let (_listener, socket) = bind(&path, mode).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, mode);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(socket);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_stale_socket_is_taken_over_and_a_live_one_is_refused() {
    let dir = directory(0o700);
    let path = dir.path().join("data.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_listener, first) = bind(&path, 0o600).unwrap();
    assert!(matches!(bind(&path, 0o600), Err(SocketError::Live(_))));
    tokio::net::UnixStream::connect(&path).await.unwrap();

    fs::remove_file(&path).unwrap();
    let (_other, _second) = bind(&path, 0o600).unwrap();
    drop(first);
    assert!(path.exists(), "a socket that another process has put there since stays");
}

#[tokio::test]
async fn a_draft_of_an_interrupted_start_is_replaced() {
    let dir = directory(0o700);
    let path = dir.path().join("data.sock");
    drop(std::os::unix::net::UnixListener::bind(draft_of(&path)).unwrap());
    bind(&path, 0o600).unwrap();
}

#[tokio::test]
async fn a_directory_that_others_can_write_is_refused() {
    for mode in [0o770, 0o707, 0o1777] {
        let dir = directory(mode);
        assert!(matches!(bind(&dir.path().join("s"), 0o600), Err(SocketError::Exposed { .. })), "{mode:o}");
    }
    assert!(matches!(bind(Path::new("/nowhere/at/all"), 0o600), Err(SocketError::Directory { .. })));
}

#[tokio::test]
async fn another_file_is_never_replaced_and_a_long_path_is_named() {
    let dir = directory(0o700);
    let path = dir.path().join("data.sock");
    fs::write(&path, "notes").unwrap();
    assert!(matches!(bind(&path, 0o600), Err(SocketError::NotASocket(_))));
    assert_eq!(fs::read(&path).unwrap(), b"notes");
    assert!(matches!(bind(&dir.path().join("x".repeat(100)), 0o600), Err(SocketError::TooLong(_))));
}
