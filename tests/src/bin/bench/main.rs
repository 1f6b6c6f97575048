//! Benchmarks: `cargo run --profile dist -p tests --bin bench -- NAME [--small] [SIZE=NUMBER ...]`.
//!
//! A benchmark prints its figures, with those of Bitnami's code for comparison if `has_upstream` is set. Benchmarks do
//! not assert times. A benchmark is a function that takes [`Sizes`], and an entry in [`BENCHMARKS`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    unreachable_pub,
    reason = "a benchmark prints its results, and fails by panicking"
)]

mod agents;
mod bench_namespace;
mod churn;
mod cold_start;
mod formats;
mod kubeseal;
mod memory;
mod namespaces;
mod operation;
mod report;
mod restart;
mod ring;
mod rotate;
mod seal_rotate;
mod sizes;
mod tenants;

use std::pin::Pin;
use std::process::ExitCode;

use sizes::Sizes;
use tests::{binaries, upstream};

/// An entry of the list of benchmarks.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    /// Whether the benchmark also runs Bitnami's code.
    has_upstream: bool,
    run: fn(Sizes) -> Pin<Box<dyn Future<Output = ()>>>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "kubeseal",
        about: "sealing with a local certificate, from the start of the process to its end",
        has_upstream: true,
        run: |sizes| Box::pin(async move { kubeseal::run(&sizes) }),
    },
    Benchmark {
        name: "seal-rotate",
        about: "a tree of sealed files for two old keys, re-encrypted for the newest one",
        has_upstream: true,
        run: |sizes| Box::pin(seal_rotate::run(sizes)),
    },
    Benchmark {
        name: "operation",
        about: "one private-key operation, the minimum cost of a new value",
        has_upstream: true,
        run: |sizes| Box::pin(async move { operation::run(&sizes) }),
    },
    Benchmark {
        name: "formats",
        about: "objects with five items in v1 and in each suite of v2, without the API server",
        has_upstream: false,
        run: |sizes| Box::pin(async move { formats::run(&sizes) }),
    },
    Benchmark {
        name: "start",
        about: "a cold start with many objects, and a restart after all Secrets exist",
        has_upstream: true,
        run: |sizes| Box::pin(cold_start::run(sizes)),
    },
    Benchmark {
        name: "start-v2",
        about: "a cold start with many v2 objects for a post-quantum key, together with v1 objects",
        has_upstream: true,
        run: |sizes| Box::pin(cold_start::run_v2(sizes)),
    },
    Benchmark {
        name: "churn",
        about: "how soon a new object has its Secret while others change",
        has_upstream: true,
        run: |sizes| Box::pin(churn::churn(sizes)),
    },
    Benchmark {
        name: "flood",
        about: "how soon a new object has its Secret while callers flood verify and rotate",
        has_upstream: true,
        run: |sizes| Box::pin(churn::flood(sizes)),
    },
    Benchmark {
        name: "tenants",
        about: "how soon a quiet tenant's new object has its Secret, alone and with hostile tenants",
        has_upstream: false,
        run: |sizes| Box::pin(tenants::run(sizes)),
    },
    Benchmark {
        name: "ring",
        about: "private-key operations with many keys",
        has_upstream: true,
        run: |sizes| Box::pin(ring::run(sizes)),
    },
    Benchmark {
        name: "rotate",
        about: "requests per second of the rotate endpoint",
        has_upstream: true,
        run: |sizes| Box::pin(rotate::run(sizes)),
    },
    Benchmark {
        name: "memory",
        about: "memory with many objects and many other Secrets",
        has_upstream: true,
        run: |sizes| Box::pin(memory::run(sizes)),
    },
    Benchmark {
        name: "namespaces",
        about: "a start with many additional namespaces",
        has_upstream: true,
        run: |sizes| Box::pin(namespaces::run(sizes)),
    },
    Benchmark {
        name: "agents",
        about: "memory of the controller and `seal-deliver node` with many Pods, and the time until a change reaches them",
        has_upstream: false,
        run: |sizes| Box::pin(agents::run(sizes)),
    },
    Benchmark {
        name: "restart",
        about: "memory and requests of `seal restart` with many workloads",
        has_upstream: false,
        run: |sizes| Box::pin(restart::run(sizes)),
    },
];

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let requested = args.next().unwrap_or_default();
    let Some(benchmark) = BENCHMARKS
        .iter()
        .find(|benchmark| benchmark.name == requested)
    else {
        eprintln!("usage: bench NAME [--small] [SIZE=NUMBER ...]\n");
        for Benchmark { name, about, .. } in BENCHMARKS {
            eprintln!("  {name:<16}{about}");
        }
        return ExitCode::from(2);
    };
    println!(
        "## {}\n\n{}: {}\n",
        benchmark.name, benchmark.name, benchmark.about
    );
    // Build the programs now; otherwise they would be built during a measurement.
    drop([
        binaries::controller(),
        binaries::kubeseal(),
        binaries::seal(),
        binaries::seal_deliver(),
    ]);
    if benchmark.has_upstream {
        drop([
            upstream::upstream_controller(),
            upstream::upstream_kubeseal(),
        ]);
    }
    report::print_machine();
    (benchmark.run)(Sizes::read(args)).await;
    ExitCode::SUCCESS
}
