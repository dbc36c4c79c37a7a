//! Each rule's tests, run with it and without it.

use std::panic::{UnwindSafe, catch_unwind};

use super::{Rule, take_out};

/// A unit test, by name.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
}

/// A list of tests, each with its name.
#[macro_export]
macro_rules! rule_tests {
    ($($test:path),* $(,)?) => {
        &[$($crate::rule::Test { name: stringify!($test), run: $test }),*]
    };
}

/// Whether a test passes on this thread without `rules`, which are back in force afterwards.
pub fn without(rules: &[Rule], test: impl FnOnce() + UnwindSafe) -> bool {
    struct PutBack;
    impl Drop for PutBack {
        fn drop(&mut self) {
            take_out(&[]);
        }
    }
    let _in_force_again = PutBack;
    take_out(rules);
    catch_unwind(test).is_ok()
}

/// Panics unless each test has the rule's name, passes with the rule and fails without it. Where `first` stands before it,
/// the rule is a second line: it is not missed alone, and the tests fail without both.
pub fn prove(rule: Rule, first: &[Rule], tests: &[Test]) {
    let prefix = prefix(rule.name());
    for Test { name, run } in tests {
        let called = name.rsplit("::").next().unwrap_or(name).trim();
        assert!(called.starts_with(&prefix), "{called} does not begin with {prefix}");
        assert!(without(&[], run), "{name} fails with every rule in force");
        let lacking: Vec<Rule> = first.iter().copied().chain([rule]).collect();
        assert!(!without(&lacking, run), "{name} passes without {lacking:?}");
        assert!(
            first.is_empty() || without(&[rule], run),
            "{name} fails without {rule:?} alone, which is no second line"
        );
    }
}

/// What the names of a rule's tests begin with.
pub(super) fn prefix(rule: &str) -> String {
    let words = rule.trim_start_matches(|c: char| !c.is_alphabetic()).to_lowercase();
    words.replace(|c: char| !c.is_alphanumeric(), "_") + "_"
}
