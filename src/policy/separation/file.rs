//! What does a separation file say? Every problem of it at once.
use super::people::People;
use super::rules::Rules;

/// What is wrong with a file.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_sorted(self) -> Vec<String> {
        self.0
    }
}

pub(super) fn read(_text: &str, problems: &mut Problems) -> Option<(People, Rules)> {
    problems.0.push("unfinished".to_owned());
    None
}
