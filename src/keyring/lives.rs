//! How is the life of a key version written into its row, and read back? The row says the state twice, in its column and
//! as the newest of its moves; a row in which they differ was not written by keyward.

use super::bodies::{self, DestroyBody, KeyBody, MoveBody};
use super::life::{By, Cause, Counted, KeyState, Life, Mark, Plan, Reason, Statement};
use super::rings::describe;
use super::verify::Damage;
use crate::clock::Wall;
use crate::store::SealedKey;

/// The life that a key row describes.
pub(super) fn read(key: &SealedKey, body: &KeyBody) -> Result<Life, Damage> {
    let wrong = |what: &str| Damage::of(describe(key), what);
    let state = KeyState::of(&key.row.state).ok_or_else(|| wrong("its state is unknown"))?;
    let marks = body.moves.iter().map(|(state, move_)| mark(state, move_)).collect::<Option<Vec<_>>>();
    let mut marks = marks.ok_or_else(|| wrong("a move of its is unknown"))?;
    // Moves of the same microsecond: making a key is the first, and the state that it is in the last.
    marks.sort_by_key(|mark| (mark.at, rank(mark.state, state)));
    let plan = body.destroy.as_ref().map(|destroy| plan(destroy).ok_or_else(|| wrong("its destruction is unknown")));
    let life = Life::read(marks, plan.transpose()?).ok_or_else(|| wrong("its moves are those of no key"))?;
    if life.state() == state { Ok(life) } else { Err(wrong("its state is not that of its newest move")) }
}

/// The state that a key row is to be treated as. Only for rows that have been verified.
pub(super) fn acting(key: &SealedKey) -> Option<KeyState> {
    let body: KeyBody = bodies::decode(&key.row.body).ok()?;
    Some(KeyState::of(&key.row.state)?.acting(body.destroy.is_some()))
}

/// Writes a life into a row that is about to be sealed.
pub(super) fn write(life: &Life, key: &mut SealedKey, body: &mut KeyBody) {
    life.state().name().clone_into(&mut key.row.state);
    body.moves = moves(life);
    body.destroy = life.plan().map(|plan| DestroyBody {
        at: plan.due.0,
        by: move_body(plan.asked, &plan.cause),
        counted: plan.counted.0,
        statement: hex::encode(plan.statement.0),
    });
    if life.state() == KeyState::Destroyed {
        key.wraps = Vec::new();
        body.keks = Vec::new();
    }
}

/// The moves of a life by the names of the states.
pub(super) fn moves(life: &Life) -> std::collections::BTreeMap<String, MoveBody> {
    let one = |mark: &Mark| {
        let Mark { state, at, reason, by, ceremony } = mark.clone();
        (state.name().to_owned(), move_body(at, &Cause { reason, by, ceremony }))
    };
    life.marks().iter().map(one).collect()
}

fn move_body(at: Wall, cause: &Cause) -> MoveBody {
    MoveBody {
        actor: cause.by.name().to_owned(),
        at: at.0,
        ceremony: cause.ceremony.clone(),
        reason: cause.reason.code().to_owned(),
    }
}

fn mark(state: &str, body: &MoveBody) -> Option<Mark> {
    let Cause { reason, by, ceremony } = cause(body)?;
    Some(Mark { state: KeyState::of(state)?, at: Wall(body.at), reason, by, ceremony })
}

fn cause(body: &MoveBody) -> Option<Cause> {
    let (reason, by) = (Reason::of(&body.reason)?, By::of(&body.actor)?);
    Some(Cause { reason, by, ceremony: body.ceremony.clone() })
}

fn plan(body: &DestroyBody) -> Option<Plan> {
    let mut statement = Statement([0; 32]);
    hex::decode_to_slice(&body.statement, &mut statement.0).ok()?;
    Some(Plan {
        due: Wall(body.at),
        counted: Counted(body.counted),
        statement,
        asked: Wall(body.by.at),
        cause: cause(&body.by)?,
    })
}

fn rank(state: KeyState, present: KeyState) -> u8 {
    match state {
        state if state == present => 2,
        KeyState::PreActive => 0,
        _ => 1,
    }
}
