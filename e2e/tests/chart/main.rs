//! The Helm chart, rendered by Helm itself: what it says to a real API server, and what each of its values does.

mod alerts;
mod chart;
mod rendered;
mod values;
