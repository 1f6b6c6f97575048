//! All intended differences between this project's template engine and Go's. `shared/template/README.md` has a row for
//! each difference.

use super::upstream::Verdict;

pub(crate) struct Deviation {
    /// The first column of the row in `shared/template/README.md`.
    pub(crate) title: &'static str,
    pub(crate) reason: &'static str,
    /// Templates that contain all of these texts may differ; an empty list allows none.
    pub(crate) texts: &'static [&'static str],
    /// Whether the only allowed difference is that this project's engine refuses a template that Go renders.
    pub(crate) is_refusal: bool,
    /// A template that shows the difference, if both engines can run it and always differ.
    pub(crate) example: Option<fn() -> String>,
}

pub(crate) const DEVIATIONS: &[Deviation] = &[
    Deviation {
        title: "`slice` beyond the end of a list",
        reason: "the items there depend on how Go grew the list",
        texts: &["slice"],
        is_refusal: true,
        example: Some(|| "{{ slice (append (list 1 2) 3) 0 4 }}".to_owned()),
    },
    Deviation {
        title: "`%d` and similar verbs for a time",
        reason: "Go shows internal fields of the time",
        texts: &["printf", "toDate"],
        is_refusal: false,
        example: Some(|| "{{ printf \"%d\" (toDate \"2006\" \"2020\") }}".to_owned()),
    },
    Deviation {
        title: "`%p`, and pointers inside lists under number verbs",
        reason: "an address reveals where secrets are in memory, and differs from run to run",
        texts: &["%p"],
        is_refusal: false,
        example: Some(|| "{{ printf \"%p\" (list 1) }}".to_owned()),
    },
    Deviation {
        title: "nesting",
        reason: "the stack of this engine is small and does not grow",
        texts: &[],
        is_refusal: true,
        example: Some(|| ["{{ if 1 }}".repeat(101), "{{ end }}".repeat(101)].concat()),
    },
    Deviation {
        title: "characters newer than Unicode 15",
        reason: "the tables of this engine are newer than those of Go 1.26",
        texts: &[],
        is_refusal: false,
        example: Some(|| "{{ printf \"%q\" \"\\U0001CC00\" }}".to_owned()),
    },
    Deviation {
        title: "methods of times beyond the common ones (`In`, `Location`, `MarshalJSON`, …)",
        reason: "they return types that no function accepts",
        texts: &[],
        is_refusal: true,
        example: Some(|| "{{ (toDate \"2006\" \"2020\").Location }}".to_owned()),
    },
    Deviation {
        title: "a dict that contains itself",
        reason: "Go exhausts its stack and the process ends, so the result cannot be compared",
        texts: &[],
        is_refusal: true,
        example: None,
    },
    Deviation {
        title: "order of `keys` and `values`",
        reason: "Go's order is random, and would change the result of each rendering",
        texts: &[],
        is_refusal: false,
        example: None,
    },
    Deviation {
        title: "`genPrivateKey \"dsa\"`",
        reason: "DSA is withdrawn (FIPS 186-5); Go needs up to a minute, so the result is not compared",
        texts: &[],
        is_refusal: true,
        example: None,
    },
    Deviation {
        title: "RSA keys below 2048 bits, ECDSA P-224",
        reason: "the cryptographic library refuses them",
        texts: &[],
        is_refusal: true,
        example: None,
    },
    Deviation {
        title: "zone names",
        reason: "Go's zone names depend on the machine, so an example would differ between machines",
        texts: &[],
        is_refusal: false,
        example: None,
    },
    Deviation {
        title: "`now`",
        reason: "the result differs at every call",
        texts: &[],
        is_refusal: false,
        example: None,
    },
    Deviation {
        title: "resources",
        reason: "Go has no budget and would exhaust the machine, so the result is not compared",
        texts: &[],
        is_refusal: true,
        example: None,
    },
];

/// Returns why the result of this template may differ, or `None` if it may not.
pub(crate) fn reason(template: &str, own_verdict: &Verdict) -> Option<&'static str> {
    let refuses = matches!(own_verdict, Verdict::RenderError(_) | Verdict::ParseError);
    let applies = |deviation: &&Deviation| {
        let texts = deviation.texts;
        !texts.is_empty()
            && texts.iter().all(|text| template.contains(text))
            && (refuses || !deviation.is_refusal)
    };
    DEVIATIONS
        .iter()
        .find(applies)
        .map(|deviation| deviation.reason)
}
