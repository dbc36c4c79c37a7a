//! Kubernetes' label selector.

use std::collections::{BTreeMap, BTreeSet};

/// `matchLabels` and `matchExpressions`, all of which must hold; an empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<Requirement>);

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
}

/// What a label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether `labels` satisfy every requirement. As in Kubernetes, `NotIn` holds where the label is absent.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}

impl std::fmt::Display for Selector {
    /// As `kubectl` prints it: `zone=a,tier in (gold,silver)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, requirement) in self.0.iter().enumerate() {
            let separator = if at > 0 { "," } else { "" };
            let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
            let key = &requirement.key;
            match &requirement.operator {
                Operator::In(values) if values.len() == 1 => {
                    write!(f, "{separator}{key}={}", list(values))?;
                }
                Operator::In(values) => write!(f, "{separator}{key} in ({})", list(values))?,
                Operator::NotIn(values) => write!(f, "{separator}{key} notin ({})", list(values))?,
                Operator::Exists => write!(f, "{separator}{key}")?,
                Operator::DoesNotExist => write!(f, "{separator}!{key}")?,
            }
        }
        Ok(())
    }
}
