//! Tests `kubeseal` and `seal` as processes, without a cluster. The tests are one program, because linking a program for
//! each file takes minutes.

mod api_server;
#[cfg_attr(windows, allow(dead_code, reason = "many tests run on Unix only"))]
mod support;

mod closed_stderr;
mod diff_repositories;
mod doctor_rules;
mod dry_run;
mod encodings;
mod endless;
mod exec_choice;
mod false_answers;
mod hidden_kinds;
mod hostile_folder;
mod hostile_repository;
mod ignore_files;
mod input_forms;
mod interrupted;
mod key_secrets;
mod key_services;
mod killed;
mod links;
mod lint_evasion;
mod lint_files;
mod lint_literals;
mod lint_misplaced;
mod lint_templates;
mod malformed_items;
mod not_dumpable;
mod odd_environments;
mod other_branches;
mod outputs;
mod pages;
mod path_bytes;
mod pins;
mod plug_in_input;
mod prompt_signals;
mod recipients;
mod redirects;
mod rotated;
mod seal_stories;
mod shown_names;
mod shown_urls;
mod stories;
mod tls_port;
mod v2;
mod v2_attacks;
mod v2_history;
mod v2_keys;
mod v2_reports;
mod v2_templates;
mod writers;
mod wrong_certificate;
