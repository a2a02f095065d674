//! The command line as a user runs it.

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/eval.rs"]
mod eval;
#[path = "cli/export.rs"]
mod export;
#[path = "cli/foreign.rs"]
mod foreign;
#[path = "cli/hub.rs"]
mod hub;
#[path = "cli/index.rs"]
mod index;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/manners.rs"]
mod manners;
#[path = "cli/outside.rs"]
mod outside;
#[path = "cli/pack.rs"]
mod pack;
#[path = "cli/push.rs"]
mod push;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/resume.rs"]
mod resume;
#[path = "cli/search.rs"]
mod search;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/strict_hub.rs"]
mod strict_hub;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/use.rs"]
mod usage;
