//! The controller in a small world of instances that take time to start, under load curves; and rule by rule.

mod curves;
mod model;
mod rules;
