//! Whether this operator can do its part, for whoever sends it work.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One thing that it takes: whether it is there, and what to say of it.
pub type Check = Box<dyn Fn() -> (bool, String) + Send + Sync>;

/// All that it takes. Clones tell of the same operator.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Inner>);

#[derive(Default)]
struct Inner {
    checks: Vec<(&'static str, Check)>,
    ending: AtomicBool,
}

impl Readiness {
    /// Ready while each of these is there, until it ends.
    pub fn new(checks: Vec<(&'static str, Check)>) -> Self {
        Self(Arc::new(Inner { checks, ending: AtomicBool::new(false) }))
    }

    /// Not ready from now on: no more work is to be sent.
    pub fn end(&self) {
        self.0.ending.store(true, Ordering::Release);
    }

    /// Whether it is about to end.
    pub fn is_ending(&self) -> bool {
        self.0.ending.load(Ordering::Acquire)
    }

    /// Whether it is ready, and what there is to say, one a line.
    pub fn tell(&self) -> (bool, Vec<String>) {
        let mut ready = !self.is_ending();
        let mut lines = vec![];
        for (name, check) in &self.0.checks {
            let (there, said) = check();
            ready &= there;
            lines.push(format!("{name}: {said}"));
        }
        if self.is_ending() {
            lines.push("ending: this operator takes no more work".into());
        }
        (ready, lines)
    }
}

impl Debug for Readiness {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Readiness").field(&self.tell()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_named_and_one_that_is_missing_counts() {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = flag.clone();
        let readiness = Readiness::new(vec![
            ("watches", Box::new(|| (true, "all".into()))),
            ("certificate", Box::new(move || (seen.load(Ordering::Acquire), "one".into()))),
        ]);
        let lines = vec!["watches: all".to_owned(), "certificate: one".into()];
        assert_eq!(readiness.tell(), (false, lines.clone()));
        flag.store(true, Ordering::Release);
        assert_eq!(readiness.tell(), (true, lines));
        readiness.clone().end();
        let (ready, lines) = readiness.tell();
        assert!(!ready && lines[2].starts_with("ending: "), "{lines:?}");
    }
}
