//! Daily work on sealed files and trees. Its commands come with their own milestone; until then it
//! says so.

use std::process::ExitCode;

const USAGE: &str = "\
seal: daily work on sealed secrets

This version has no commands of its own yet. What works today without a cluster is in `kubeseal`:
  kubeseal --cert cert.pem < secret.yaml > sealed.yaml
See `kubeseal --help`.
";

fn main() -> ExitCode {
    let asked = std::env::args().nth(1);
    if matches!(asked.as_deref(), Some("--help" | "-h" | "help")) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    eprint!("{USAGE}");
    ExitCode::from(2)
}
