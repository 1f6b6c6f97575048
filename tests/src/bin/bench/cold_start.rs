//! Measures a start with many objects and no Secret yet, and a restart after all Secrets exist.

use std::time::{Duration, Instant};

use shared::key::{KeySize, NewKey};
use shared::meter::Unmetered;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::v2::{self, Checked, OpenedLocks, Policy, SecretKey, Suite, Target};
use tests::control_plane::ControlPlane;

use crate::bench_namespace::{BenchNamespace, Implementation, Load, metric, time_bare_writes};
use crate::operation::{new_key, time_unsealing};
use crate::report::{percentile, print_head, print_row, ratio, time};
use crate::sizes::Sizes;

pub async fn run(sizes: Sizes) {
    let objects = sizes.size("objects", 60, 2000);
    let items = sizes.size("items", 3, 3);
    let with_defaults = sizes.size("objects-defaults", 20, 200);
    let key = new_key(KeySize::Rsa4096);
    let keys = std::slice::from_ref(&key);
    let operation = time_unsealing(&key.pair, &Scope::ClusterWide.label("", ""), 40);
    let load = Load::new(keys, objects, items);
    let plane = ControlPlane::start().await;
    let floor = measure_floor(&plane, &load, operation).await;
    let mut without_limits = Vec::new();
    for implementation in [Implementation::Ours, Implementation::Upstream] {
        without_limits.push((
            implementation,
            measure(&plane, implementation, keys, &load).await,
        ));
    }
    let small_load = Load::new(keys, with_defaults, items);
    let mut defaults = Vec::new();
    for implementation in [Implementation::Ours, Implementation::UpstreamDefaults] {
        defaults.push((
            implementation,
            measure(&plane, implementation, keys, &small_load).await,
        ));
    }
    print_head(&[
        "cold start",
        "until every Secret exists",
        "and every status",
        "relative to the floor",
        "relative to this project",
    ]);
    print_row(&[
        "floor".into(),
        String::new(),
        time(floor),
        "1".into(),
        String::new(),
    ]);
    for (implementation, times) in &without_limits {
        let cells = [
            implementation.name().into(),
            time(times.secrets),
            time(times.statuses),
            ratio(times.statuses, floor),
            ratio(times.statuses, without_limits[0].1.statuses),
        ];
        print_row(&cells);
    }
    print_head(&[
        "restart",
        "until a new object's Secret exists",
        "relative to this project",
    ]);
    for (implementation, times) in &without_limits {
        let cells = [
            implementation.name().into(),
            time(times.restart),
            ratio(times.restart, without_limits[0].1.restart),
        ];
        print_row(&cells);
    }
    print_head(&[
        &format!("{with_defaults} objects"),
        "cold start",
        "restart",
        "cold start relative to this project",
    ]);
    for (implementation, times) in &defaults {
        print_row(&[
            implementation.name().into(),
            time(times.secrets),
            time(times.restart),
            ratio(times.secrets, defaults[0].1.secrets),
        ]);
    }
}

/// Measures a cold start and a restart with v2 objects for a post-quantum key, and with v1 objects, which Bitnami's
/// controller also unseals.
pub async fn run_v2(sizes: Sizes) {
    let objects = sizes.size("objects", 60, 10_000);
    let items = sizes.size("items", 5, 5);
    let rsa = [new_key(KeySize::Rsa4096)];
    let plane = ControlPlane::start().await;
    let v2 = measure_v2(&plane, &rsa, objects, items).await;
    let load = Load::new(&rsa, objects, items);
    let own_times = measure(&plane, Implementation::Ours, &rsa, &load).await;
    let upstream = measure(&plane, Implementation::Upstream, &rsa, &load).await;
    print_head(&[
        "cold start",
        "until every Secret exists",
        "and every status",
        "relative to v2",
        "restart",
    ]);
    for (name, times) in [
        ("this project, v2 xw", &v2),
        ("this project, v1 (RSA-4096)", &own_times),
        ("upstream, no limits, v1", &upstream),
    ] {
        print_row(&[
            name.into(),
            time(times.secrets),
            time(times.statuses),
            ratio(times.statuses, v2.statuses),
            time(times.restart),
        ]);
    }
}

async fn measure_v2(plane: &ControlPlane, rsa: &[NewKey], objects: usize, items: usize) -> Times {
    let key = SecretKey::generate(Suite::XWing, &mut shared::random::system()).unwrap();
    let load = Load::new_v2(&key.recipient(), objects, items);
    let operation = time_opening(&key, &load.objects[0]);
    let count = u32::try_from(objects).unwrap();
    println!(
        "\n{objects} locks × {} = {} of one processor for the cryptography",
        time(operation),
        time(operation * count)
    );
    let mut bench = BenchNamespace::new(plane, rsa).await;
    bench.put_v2_key(key).await;
    measure_in(&bench, Implementation::Ours, &load).await
}

/// Returns the median time to open an object.
fn time_opening(key: &SecretKey, sealed: &SealedSecret) -> Duration {
    let keys = [key.opener()].into_iter().collect();
    let mut durations: Vec<Duration> = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        let checked = Checked::new(sealed, &Policy::default(), Target::Secret).unwrap();
        let mut locks = OpenedLocks::default();
        let rng = &mut shared::random::system();
        v2::open(&checked, &keys, &mut locks, &mut Unmetered, rng).unwrap();
        durations.push(start.elapsed());
    }
    percentile(&durations, 50)
}

/// Returns the floor of a cold start: the time of one private-key operation for each item, on all processors, plus the
/// time of the writes.
async fn measure_floor(plane: &ControlPlane, load: &Load, operation: Duration) -> Duration {
    let items: usize = load
        .objects
        .iter()
        .map(|o| o.spec.encrypted_data.len())
        .sum();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let items = u32::try_from(items).unwrap();
    let opening = operation * items / u32::try_from(processors).unwrap();
    let writing = time_bare_writes(plane, load).await;
    println!(
        "\nfloor: {items} items × {} ÷ {processors} = {}, and {} for the writes",
        time(operation),
        time(opening),
        time(writing)
    );
    opening + writing
}

/// Times since a start of the controller.
struct Times {
    /// The time until every Secret existed.
    secrets: Duration,
    /// The time until every object had its status.
    statuses: Duration,
    /// The time from the restart until the Secret of a new object existed.
    restart: Duration,
}

async fn measure(
    plane: &ControlPlane,
    implementation: Implementation,
    keys: &[NewKey],
    load: &Load,
) -> Times {
    let bench = BenchNamespace::new(plane, keys).await;
    measure_in(&bench, implementation, load).await
}

async fn measure_in(
    bench: &BenchNamespace<'_>,
    implementation: Implementation,
    load: &Load,
) -> Times {
    bench.create_all(load).await;
    let start = Instant::now();
    let pod = bench.run(implementation, &[]).await;
    let secrets = bench.wait_for_secrets(load.objects.len(), start).await;
    let statuses = bench.wait_until_synced(start).await;
    if implementation == Implementation::Ours {
        let operations = metric(&pod, "private_key_operations_total").await;
        println!(
            "{}: {operations} private-key operations at the cold start",
            implementation.name()
        );
    }
    pod.stop();
    let start = Instant::now();
    let pod = bench.run(implementation, &[]).await;
    let mut new = load.objects[0].clone();
    new.metadata.name = Some("new".into());
    bench.create(&new).await;
    let restart = bench.wait_for_secret("new", start).await;
    if implementation == Implementation::Ours {
        let operations = metric(&pod, "private_key_operations_total").await;
        println!(
            "{}: {operations} private-key operations at the restart, with one new object",
            implementation.name()
        );
    }
    pod.stop();
    Times {
        secrets,
        statuses,
        restart,
    }
}
