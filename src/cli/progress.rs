//! How far is it? A bar on a terminal; elsewhere, in a service's journal say, a line for each step and each tenth of it.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

/// One bar for one step after another.
pub(super) struct Steps {
    bar: ProgressBar,
    /// The step that was told last, and how many tenths of it.
    told: Mutex<(&'static str, u64)>,
}

impl Steps {
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {per_sec} {eta}");
        let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, told: Mutex::new(("", 0)) }
    }

    pub(super) fn tell(&self, what: &'static str, done: u64, of: u64) {
        if self.bar.is_hidden() {
            if let Some(line) = line(&self.told, what, done, of) {
                eprintln!("{line}");
            }
            return;
        }
        if self.bar.message() != what {
            self.bar.reset();
            self.bar.set_message(what);
        }
        self.bar.set_length(of);
        self.bar.set_position(done);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What is told where there is no terminal, if there is something new to tell.
fn line(told: &Mutex<(&'static str, u64)>, what: &'static str, done: u64, of: u64) -> Option<String> {
    let tenths = done.min(of).saturating_mul(10).checked_div(of).unwrap_or_default();
    let before = std::mem::replace(&mut *told.lock().unwrap_or_else(PoisonError::into_inner), (what, tenths));
    if before == (what, tenths) {
        return None;
    }
    Some(if tenths == 0 { format!("{what} ...") } else { format!("{what}: {done} of {of}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_for_each_tenth() {
        let told = Mutex::new(("", 0));
        let lines: Vec<String> = (0..=1_000).filter_map(|done| line(&told, "copying", done, 1_000)).collect();
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert_eq!((lines[0].as_str(), lines[10].as_str()), ("copying ...", "copying: 1000 of 1000"));
        assert_eq!(line(&told, "verifying", 0, 0).as_deref(), Some("verifying ..."));
    }
}
