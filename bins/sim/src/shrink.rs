//! `fanfare-sim shrink`: the shortest plan found that fails by the same name. Steps are taken out, then the world is made
//! smaller and calmer; the plan is edited, and never drawn anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use clap::Args;
use serde_json::Value;

use crate::plan::{Bounds, Device, Network, Plan, Step, Timed};
use crate::run::{Interrupts, Jobs, bar};
use crate::{say, story, verdict, world};

/// What `shrink` is told.
#[derive(Debug, Args)]
pub(crate) struct Shrink {
    /// The plan's file
    plan: PathBuf,
    /// File to which the shorter plan is written [default: beside it, as NAME.short.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    jobs: Jobs,
}

pub(crate) fn run(args: &Shrink) -> ExitCode {
    let plan = match Plan::read(args.plan.clone()) {
        Ok(plan) => plan,
        Err(error) => {
            say(&format!("fanfare-sim: {error}"));
            return ExitCode::from(verdict::USAGE);
        }
    };
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| args.plan.with_extension("short.json"));
    if out == args.plan {
        say(&format!(
            "fanfare-sim: {}: the shorter plan would be written over it: name another file",
            out.display()
        ));
        return ExitCode::from(verdict::USAGE);
    }
    let folder = out.parent().filter(|it| !it.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        say(&format!(
            "fanfare-sim: {}: there is no such folder",
            out.display()
        ));
        return ExitCode::from(verdict::USAGE);
    }
    let began = Instant::now();
    let report = world::run(&plan, &mut |_| {});
    let Some(failure) = report.failure else {
        say("fanfare-sim: this plan keeps every promise: there is nothing to shorten");
        return ExitCode::from(verdict::USAGE);
    };
    let name = failure.name();
    let before = plan.steps.len();
    say(&format!("{before} steps, which fail by {name}"));
    let bar = bar(None, "{spinner} shortening: {msg}, {elapsed}");
    let stop = AtomicBool::new(false);
    let jobs = args.jobs.number();
    let mut shrinker = Shrinker {
        fails: &|plan| {
            let failure = world::run(plan, &mut |_| {}).failure;
            failure.is_some_and(|failure| failure.name() == name)
        },
        tell: &|plan, tried| {
            bar.set_message(format!("{} steps, {tried} plans tried", plan.steps.len()));
        },
        stop: &stop,
        jobs,
        best: plan,
        tried: AtomicUsize::new(0),
    };
    // What was tried until then is not lost.
    let interrupted = Interrupts::watch().during(&stop, || shrinker.all(report.taken));
    bar.finish_and_clear();
    let tried = shrinker.tried.load(Ordering::Relaxed);
    let short = shrinker.best;
    let (told, report) = story::tell(&short);
    say(&format!(
        "{} of {before} steps are left, after {tried} plans in {:.1} s",
        short.steps.len(),
        began.elapsed().as_secs_f64()
    ));
    for line in &told {
        say(&format!("  {line}"));
    }
    if let Some(failure) = &report.failure {
        say(&verdict::story(&short, &report, failure, &told));
    }
    match short.write(&out, &told) {
        Ok(()) => say(&format!(
            "  replay    fanfare-sim replay {} --trace",
            out.display()
        )),
        Err(error) => {
            say(&format!("fanfare-sim: {error}; this is it"));
            say(&short.to_json(&told));
            return ExitCode::from(verdict::USAGE);
        }
    }
    if interrupted {
        return ExitCode::from(verdict::INTERRUPTED);
    }
    ExitCode::SUCCESS
}

/// Looks for a shorter plan that still fails.
struct Shrinker<'s> {
    fails: &'s (dyn Fn(&Plan) -> bool + Sync),
    /// Is told of each shorter plan, and how many were tried.
    tell: &'s (dyn Fn(&Plan, usize) + Sync),
    /// Set where there is no time for more.
    stop: &'s AtomicBool,
    jobs: usize,
    best: Plan,
    tried: AtomicUsize,
}

impl Shrinker<'_> {
    /// Everything, until nothing more helps. The plan failed after `taken` steps.
    fn all(&mut self, taken: usize) {
        let mut begun = self.best.clone();
        begun.steps.truncate(taken);
        self.take_first(vec![begun]);
        loop {
            let before = self.best.clone();
            self.steps();
            self.end();
            self.world();
            self.optional();
            self.devices();
            self.times();
            self.simpler();
            if self.best == before || self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// The first of these that fails is the best from now on; as many as there are cores are tried at once. Its number.
    fn take_first(&mut self, candidates: Vec<Plan>) -> Option<usize> {
        let best = &self.best;
        let candidates: Vec<(usize, Plan)> = candidates
            .into_iter()
            .enumerate()
            .filter(|(_, plan)| plan != best && plan.check().is_ok())
            .collect();
        for some in candidates.chunks(self.jobs) {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            self.tried.fetch_add(some.len(), Ordering::Relaxed);
            let fails = self.fails;
            let results: Vec<bool> = thread::scope(|threads| {
                let running = some
                    .iter()
                    .map(|(_, plan)| threads.spawn(move || fails(plan)));
                let running: Vec<_> = running.collect();
                let results = running.into_iter();
                results.map(|it| it.join().unwrap_or(false)).collect()
            });
            let failing = some.iter().zip(results).find(|(_, fails)| *fails);
            if let Some(((number, plan), _)) = failing {
                self.best = plan.clone();
                (self.tell)(&self.best, self.tried.load(Ordering::Relaxed));
                return Some(*number);
            }
            (self.tell)(&self.best, self.tried.load(Ordering::Relaxed));
        }
        None
    }

    /// Takes out runs of steps: halves, quarters, and so on, to single ones.
    fn steps(&mut self) {
        let mut size = self.best.steps.len().div_ceil(2);
        while size > 0 {
            // From the end: what comes early is more often what the rest depends on.
            let mut end = self.best.steps.len();
            while end > 0 && !self.stop.load(Ordering::Relaxed) {
                let ends: Vec<usize> = (0..self.jobs)
                    .filter_map(|number| end.checked_sub(number * size))
                    .filter(|end| *end > 0)
                    .collect();
                let without = |end: &usize| {
                    let mut plan = self.best.clone();
                    plan.steps.drain(end.saturating_sub(size)..*end);
                    plan
                };
                let candidates = ends.iter().map(without).collect();
                let tried = self
                    .take_first(candidates)
                    .map_or(ends.len(), |number| number + 1);
                end = end.saturating_sub(tried * size).min(self.best.steps.len());
            }
            if size == 1 {
                return;
            }
            size = size.div_ceil(2);
        }
    }

    /// The faults end earlier: a promise of the end is judged sooner.
    fn end(&mut self) {
        let last = self.best.steps.last().map_or(0, |timed| timed.at_ms);
        let candidates = [0, 1_000, 60_000].map(|more| {
            let mut plan = self.best.clone();
            plan.world.faults_ms = plan.world.faults_ms.min(last + more);
            plan
        });
        self.take_first(candidates.into());
    }

    /// A network and bounds that explain nothing, if they have nothing to do with it.
    fn world(&mut self) {
        let changes: [&dyn Fn(&mut Plan); 11] = [
            &|plan| plan.world.direct = true,
            &|plan| plan.world.outlets = 0,
            &|plan| plan.world.rolls = false,
            &|plan| {
                let devices = plan.world.devices.iter_mut();
                devices.for_each(|device| device.given_up = false);
            },
            &|plan| {
                let devices = plan.world.devices.iter_mut();
                devices.for_each(|device| device.shipped = false);
            },
            &|plan| plan.world.network = Network::CALM,
            &|plan| plan.world.network.latency_ms = Network::CALM.latency_ms,
            &|plan| plan.world.network.chopped = false,
            &|plan| {
                plan.world.network.bytes_per_ms = Network::CALM.bytes_per_ms;
                plan.world.network.window_bytes = Network::CALM.window_bytes;
            },
            &|plan| plan.world.limits = Bounds::default(),
            &|plan| {
                let used = |of: &dyn Fn(&Step) -> Option<usize>| {
                    let steps = plan.steps.iter();
                    let most = steps.filter_map(|timed| of(&timed.step)).max();
                    most.map_or(1, |most| most + 1)
                };
                let tasks = used(&|step| step.names().1.and_then(|it| it.try_into().ok()));
                let publishers = used(&|step| step.names().2);
                let chats = plan.world.devices.iter().filter_map(Device::task).max();
                let chats = chats.map_or(1, |most| most + 1);
                let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                plan.world.tasks = plan.world.tasks.min(number(tasks).max(chats));
                plan.world.publishers = plan.world.publishers.min(number(publishers));
            },
        ];
        for change in changes {
            let mut plan = self.best.clone();
            change(&mut plan);
            self.take_first(vec![plan]);
        }
    }

    /// Leaves out what a plan may leave out: of the world, and of all devices.
    fn optional(&mut self) {
        let plan = serde_json::to_value(&self.best).unwrap_or_default();
        let of_world = plan["world"].as_object().into_iter().flatten();
        let of_world: Vec<String> = of_world.map(|(name, _)| name.clone()).collect();
        let devices = plan["world"]["devices"].as_array().into_iter().flatten();
        let of_devices = devices.filter_map(Value::as_object).flatten();
        let of_devices: BTreeSet<String> = of_devices.map(|(name, _)| name.clone()).collect();
        for name in of_world {
            self.without_fields(|plan| remove(&mut plan["world"], &name));
        }
        for name in of_devices {
            self.without_fields(|plan| {
                let devices = plan["world"]["devices"].as_array_mut();
                devices
                    .into_iter()
                    .flatten()
                    .for_each(|it| remove(it, &name));
            });
        }
    }

    /// Takes a plan without some of its fields, where it is one.
    fn without_fields(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut plan = serde_json::to_value(&self.best).unwrap_or_default();
        edit(&mut plan);
        if let Ok(plan) = serde_json::from_value(plan) {
            self.take_first(vec![plan]);
        }
    }

    /// Takes out devices: all that no step names, or one with its steps.
    fn devices(&mut self) {
        let named = |plan: &Plan, device: usize| {
            let mut steps = plan.steps.iter();
            steps.any(|timed| timed.step.names().0 == Some(device))
        };
        let mut plan = self.best.clone();
        for device in (0..plan.world.devices.len()).rev() {
            if !named(&plan, device) {
                plan = without(&plan, device);
            }
        }
        self.take_first(vec![plan]);
        let mut device = self.best.world.devices.len();
        while device > 0 && !self.stop.load(Ordering::Relaxed) {
            device -= 1;
            self.take_first(vec![without(&self.best, device)]);
        }
    }

    /// Steps come sooner behind each other.
    fn times(&mut self) {
        for of in [100, 10, 2] {
            let mut plan = self.best.clone();
            for timed in &mut plan.steps {
                timed.at_ms /= of;
            }
            self.take_first(vec![plan]);
        }
        for number in 0..self.best.steps.len() {
            let before = number.checked_sub(1).and_then(|it| self.best.steps.get(it));
            let before = before.map_or(0, |timed| timed.at_ms);
            let Some(at) = self.best.steps.get(number).map(|timed| timed.at_ms) else {
                return;
            };
            let gaps = [0, 100, 1_000, 10_000].into_iter();
            let sooner = gaps.filter(|gap| before + gap < at).map(|gap| {
                let mut plan = self.best.clone();
                for timed in plan.steps.iter_mut().skip(number) {
                    timed.at_ms -= at - before - gap;
                }
                plan
            });
            let sooner = sooner.collect();
            self.take_first(sooner);
        }
        self.end();
    }

    /// Each step as plain as it can be.
    fn simpler(&mut self) {
        for number in 0..self.best.steps.len() {
            let Some(timed) = self.best.steps.get(number) else {
                return;
            };
            for step in plainer(&timed.step) {
                let mut plan = self.best.clone();
                if let Some(timed) = plan.steps.get_mut(number) {
                    timed.step = step;
                }
                self.take_first(vec![plan]);
            }
        }
    }
}

/// Values that say less, by the names of their fields.
const PLAIN: [(&str, &str); 10] = [
    ("publisher", "0"),
    ("dies", "false"),
    ("bytes", "0"),
    ("users", "[]"),
    ("insists", "false"),
    ("ephemeral", "false"),
    ("lies", "false"),
    ("with", "\"positions\""),
    ("kind", "{\"note\":{}}"),
    ("behind", "0"),
];

/// The step with one of its fields plain.
fn plainer(step: &Step) -> Vec<Step> {
    let mut found = Vec::new();
    for (field, plain) in PLAIN {
        let plain: Value = serde_json::from_str(plain).unwrap_or_default();
        let changed = edited(step, &mut |name, value| {
            if name == field {
                *value = plain.clone();
            }
        });
        found.extend(changed.filter(|changed| changed != step));
    }
    found
}

fn remove(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(field);
    }
}

/// A step with its fields changed by name, where it is one then.
fn edited(step: &Step, change: &mut dyn FnMut(&str, &mut Value)) -> Option<Step> {
    fn walk(value: &mut Value, change: &mut dyn FnMut(&str, &mut Value)) {
        for (name, value) in value.as_object_mut().into_iter().flatten() {
            change(name, value);
            walk(value, change);
        }
    }
    let mut value = serde_json::to_value(step).ok()?;
    walk(&mut value, change);
    serde_json::from_value(value).ok()
}

/// A plan without a device and its steps; those behind it count one less.
fn without(plan: &Plan, device: usize) -> Plan {
    let mut short = plan.clone();
    if device < short.world.devices.len() {
        short.world.devices.remove(device);
    }
    let behind = |number: usize| if number > device { number - 1 } else { number };
    let numbers: BTreeMap<usize, usize> = (0..plan.world.devices.len())
        .map(|it| (it, behind(it)))
        .collect();
    let steps = plan
        .steps
        .iter()
        .filter(|timed| timed.step.names().0 != Some(device));
    short.steps = steps
        .filter_map(|timed| {
            let step = edited(&timed.step, &mut |name, value| {
                if name == "device"
                    && let Some(number) = value.as_u64().and_then(|it| usize::try_from(it).ok())
                {
                    *value = numbers.get(&number).copied().into();
                }
            });
            let at_ms = timed.at_ms;
            step.map(|step| Timed { at_ms, step })
        })
        .collect();
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::generate;
    use crate::history::Seen;

    fn shrink(plan: Plan, fails: &(dyn Fn(&Plan) -> bool + Sync)) -> (Plan, usize) {
        assert!(fails(&plan), "the plan does not fail");
        let taken = plan.steps.len();
        let stop = AtomicBool::new(false);
        let mut shrinker = Shrinker {
            fails,
            tell: &|_, _| (),
            stop: &stop,
            jobs: 2,
            best: plan,
            tried: AtomicUsize::new(0),
        };
        shrinker.all(taken);
        assert!(fails(&shrinker.best));
        (shrinker.best, shrinker.tried.into_inner())
    }

    #[test]
    fn what_does_not_matter_is_taken_out_of_a_plan() {
        // It takes a leave, and a publish later that insists.
        let fails = |plan: &Plan| {
            let mut steps = plan.steps.iter().map(|timed| &timed.step);
            steps.any(|step| matches!(step, Step::Leave { .. }))
                && steps.any(|step| matches!(step, Step::Publish { insists: true, .. }))
        };
        let plan = (0..).map(generate).find(fails).unwrap();
        let (short, tried) = shrink(plan, &fails);
        let left: Vec<String> = short
            .steps
            .iter()
            .map(|it| crate::tally::name(&it.step))
            .collect();
        assert_eq!(left, ["leave", "publish"]);
        assert_eq!((short.world.devices.len(), short.world.publishers), (1, 1));
        assert_eq!(
            (short.world.network, short.world.limits),
            (Network::CALM, Bounds::default())
        );
        assert_eq!(short.world.faults_ms, 0);
        assert!(tried < 1_000, "{tried} plans were tried");
    }

    #[test]
    fn a_history_that_an_oracle_complains_of_gets_short_and_its_story_stays_right() {
        // As if nobody might be told of a position that is no one's.
        let gap = |plan: &Plan| {
            let mut seen = false;
            world::run(plan, &mut |it| {
                if let Seen::Received { frame, .. } = &it.seen {
                    seen |= frame["data"]["reason"] == "epoch";
                }
            });
            seen
        };
        let plan = (0..).map(generate).find(gap).unwrap();
        let before = plan.steps.len();
        let (short, tried) = shrink(plan, &gap);
        let (told, _) = story::tell(&short);
        let story = told.join("\n");
        assert!(
            short.steps.len() <= 20,
            "{before} steps, {tried} plans, and then: {story}"
        );
        assert_eq!(told.len(), short.steps.len());
    }

    #[test]
    fn who_is_behind_a_device_that_is_taken_out_counts_one_less() {
        let plan = generate(1);
        let last = plan.world.devices.len() - 1;
        let short = without(&plan, 0);
        assert_eq!(short.world.devices[..], plan.world.devices[1..]);
        let of = |plan: &Plan, device| {
            let mut steps = plan.steps.clone();
            steps.retain(|timed| timed.step.names().0 == Some(device));
            steps.len()
        };
        assert_eq!(of(&short, last - 1), of(&plan, last));
        assert_eq!(short.steps.len(), plan.steps.len() - of(&plan, 0));
        short.check().unwrap();
    }
}
