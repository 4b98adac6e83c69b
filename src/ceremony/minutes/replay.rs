//! Could it have happened like this? The events of a ceremony are given to the state machine once more, each at its time; the
//! document that comes out must be the one that is there (CER-22). So every rule that held then holds again, and none is
//! written down twice.

use crate::clock::Wall;
use crate::policy::roster::Roster;
use crate::policy::separation::Separation;

use super::super::machine::{Ceremony, Ended, Event, Outcome, Recorded, World};

/// What a ceremony is looked at with: all that its proposal names.
pub(super) struct Scene<'a> {
    pub(super) ceremony: &'a Ceremony,
    pub(super) roster: &'a Roster,
    pub(super) separation: &'a Separation,
    pub(super) next: Option<&'a Separation>,
}

impl<'a> Scene<'a> {
    /// The world as the proposal says it was.
    pub(super) fn world(&self, now: u64, counted: u64) -> World<'a> {
        let then = &self.ceremony.proposal().preconditions;
        World {
            now: Wall(now),
            counted,
            clock_synchronised: true,
            separation: self.separation,
            next_separation: self.next,
            roster: self.roster,
            policy: &then.policy,
            settings: &then.settings,
            targets: &then.targets,
            margin: self.separation.margin(self.roster),
            last_counter: &|_| None,
        }
    }

    /// Plays it once more; the error says what could not have happened.
    pub(super) fn replay(&self) -> Result<(), String> {
        let recorded = self.ceremony;
        let (first, rest) = recorded.decisions().split_first().ok_or("it has no decision")?;
        let opened = recorded.opened();
        if opened.wall != first.at {
            return Err("it was opened at another time than it was proposed".to_owned());
        }
        let world = self.at(first);
        let proposal = recorded.proposal().clone();
        let begun = Ceremony::propose(proposal, &first.text, &first.signature, &world);
        let mut played = begun.map_err(|why| format!("the proposal: {why}"))?;
        for one in rest {
            let event = Event::Decide { text: &one.text, signature: &one.signature };
            let stepped = played.step(event, &self.at(one));
            played = stepped.map_err(|why| format!("the decision at {}: {why}", Wall(one.at).rfc3339_millis()))?;
        }
        let played = self.carry_out(self.close(played)?)?;
        if played == *recorded { Ok(()) } else { Err("its marks are not those that its events leave".to_owned()) }
    }

    /// Time and the world end a ceremony without an event of a person.
    fn close(&self, played: Ceremony) -> Result<Ceremony, String> {
        let Some(end) = self.ceremony.end() else { return Ok(played) };
        match end.kind {
            Ended::Expired => {
                Ok(played.step(Event::Observe, &self.world(end.at, u64::MAX)).map_err(|why| why.to_string())?)
            }
            // What had changed is named by its end; the change itself is no part of these minutes.
            Ended::Superseded => Ok(played.ended(end.clone())),
            Ended::Executed | Ended::Failed | Ended::Aborted | Ended::Withdrawn | Ended::Denied => Ok(played),
        }
    }

    fn carry_out(&self, played: Ceremony) -> Result<Ceremony, String> {
        let Some(executing) = self.ceremony.executing() else { return Ok(played) };
        // The counted time at that point is not kept: it is taken to have been enough, the wall clock is compared.
        let cool_off = self.ceremony.proposal().cool_off.saturating_mul(1_000_000);
        let counted = self.ceremony.met().map_or(0, |met| met.counted).saturating_add(cool_off);
        let start = Event::Start { by: executing.by.clone(), intent: executing.intent };
        let started = played.step(start, &self.world(executing.at, counted));
        let started = started.map_err(|why| format!("carrying it out: {why}"))?;
        let Some(end) = self.ceremony.end() else { return Ok(started) };
        let outcome = match end.kind {
            Ended::Executed => Outcome::Executed,
            Ended::Failed => Outcome::Failed,
            Ended::Aborted => Outcome::Aborted,
            Ended::Withdrawn | Ended::Denied | Ended::Expired | Ended::Superseded => {
                return Err("its end does not follow from carrying it out".to_owned());
            }
        };
        let finish = Event::Finish { outcome, why: end.why.clone() };
        started.step(finish, &self.world(end.at, counted)).map_err(|why| why.to_string())
    }

    fn at(&self, one: &Recorded) -> World<'a> {
        let opened = self.ceremony.opened().counted;
        let met = self.ceremony.met().filter(|met| one.at >= met.wall);
        self.world(one.at, met.map_or(opened, |met| met.counted))
    }
}
