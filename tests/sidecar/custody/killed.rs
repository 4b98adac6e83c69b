//! A sidecar that is killed while it carries out what was decided: afterwards all of it has happened, or nothing.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::Place;
use crate::support::keyward_ok;

/// Milliseconds from the request to the end of the process: around the intent, the transaction and the outcome.
const DELAYS: &[u64] = &[0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 25];

fn open_intents(place: &Place) -> Value {
    let text = keyward_ok(&["audit", "verify", "--json", &place.setup.log()]);
    serde_json::from_str::<Value>(&text).unwrap()["open_intents"].clone()
}

#[test]
fn a_kill_in_the_middle_leaves_effect_and_spent_ceremony_both_there_or_both_not() {
    let mut place = Place::new();
    place.keyring();
    let mut happened = 0;
    for delay in DELAYS {
        let before = place.versions().len();
        let ceremony = place.propose("keyring.rotate", &json!({ "keyring": "patients", "trigger": "incident" }));
        place.approve(&ceremony, &["bob"]);
        let mut stream = UnixStream::connect(place.setup.control()).unwrap();
        let path = format!("/v1/ceremonies/{}/execute", ceremony.id);
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
        write!(stream, "{head}content-length: 2\r\n\r\n{{}}").unwrap();
        std::thread::sleep(Duration::from_millis(*delay));
        place.serving.take().unwrap().kill();
        let left = open_intents(&place);
        place.serving = Some(place.setup.serve());

        let rotated = place.versions().len() - before;
        let state = place.state(&ceremony);
        println!("after {delay} ms: {state}, open before the start: {left}");
        match rotated {
            0 => {
                assert_eq!(state, "ready", "after {delay} ms");
                let (status, view) = place.execute(&ceremony);
                assert_eq!((status, view["state"].as_str()), (200, Some("executed")), "after {delay} ms: {view}");
                assert_eq!(place.versions().len(), before + 1);
            }
            1 => {
                happened += 1;
                assert_eq!(state, "executed", "after {delay} ms");
            }
            more => panic!("{more} rotations of one ceremony after {delay} ms"),
        }
        place.refused(&place.execute(&ceremony), "ceremony_state", "spent");
        assert_eq!(place.versions().len(), before + 1, "after {delay} ms");
        assert_eq!(place.seal().0, 200);
    }
    println!("{happened} of {} had happened", DELAYS.len());
    place.stop();
    assert_eq!(open_intents(&place), json!([]));
}
