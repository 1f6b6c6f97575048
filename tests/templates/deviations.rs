//! All intended differences between our template engine and Go's. The page of the template crate has a row
//! for each.

use super::upstream::Verdict;

pub(crate) struct Deviation {
    /// The first column of the row in `shared/template/README.md`.
    pub(crate) what: &'static str,
    pub(crate) reason: &'static str,
    /// Generated templates that contain all of these may differ; an empty list allows none.
    pub(crate) texts: &'static [&'static str],
    /// The only allowed difference is that our engine refuses what Go renders.
    pub(crate) refused: bool,
    /// A template that shows the difference, if both engines can run it and always differ.
    pub(crate) example: Option<fn() -> String>,
}

pub(crate) const DEVIATIONS: &[Deviation] = &[
    Deviation {
        what: "`slice` beyond the end of a list",
        reason: "what lies there depends on how Go grew the list",
        texts: &["slice"],
        refused: true,
        example: Some(|| "{{ slice (append (list 1 2) 3) 0 4 }}".to_owned()),
    },
    Deviation {
        what: "`%d` and the like on a time",
        reason: "Go shows internal fields of its own",
        texts: &["printf", "toDate"],
        refused: false,
        example: Some(|| "{{ printf \"%d\" (toDate \"2006\" \"2020\") }}".to_owned()),
    },
    Deviation {
        what: "`%p`, and pointers inside lists under number verbs",
        reason: "an address tells where secrets lie and differs from run to run",
        texts: &["%p"],
        refused: false,
        example: Some(|| "{{ printf \"%p\" (list 1) }}".to_owned()),
    },
    Deviation {
        what: "nesting",
        reason: "our stack is small and does not grow",
        texts: &[],
        refused: true,
        example: Some(|| ["{{ if 1 }}".repeat(101), "{{ end }}".repeat(101)].concat()),
    },
    Deviation {
        what: "characters newer than Unicode 15",
        reason: "our tables are newer than those of Go 1.26",
        texts: &[],
        refused: false,
        example: Some(|| "{{ printf \"%q\" \"\\U0001CC00\" }}".to_owned()),
    },
    Deviation {
        what: "methods of times beyond the common ones (`In`, `Location`, `MarshalJSON`, …)",
        reason: "they yield types that no function takes",
        texts: &[],
        refused: true,
        example: Some(|| "{{ (toDate \"2006\" \"2020\").Location }}".to_owned()),
    },
    Deviation {
        what: "a dict that contains itself",
        reason: "Go runs out of stack and the process ends, so it cannot be asked",
        texts: &[],
        refused: true,
        example: None,
    },
    Deviation {
        what: "order of `keys` and `values`",
        reason: "Go's is random; a result that changes by itself is no use",
        texts: &[],
        refused: false,
        example: None,
    },
    Deviation {
        what: "`genPrivateKey \"dsa\"`",
        reason: "DSA is withdrawn (FIPS 186-5); Go needs up to a minute, so it is not asked",
        texts: &[],
        refused: true,
        example: None,
    },
    Deviation {
        what: "RSA keys below 2048 bits, ECDSA P-224",
        reason: "the cryptographic library refuses them",
        texts: &[],
        refused: true,
        example: None,
    },
    Deviation {
        what: "zone names",
        reason: "Go's depend on the machine, so an example would too",
        texts: &[],
        refused: false,
        example: None,
    },
    Deviation {
        what: "`now`",
        reason: "it differs at every call anyway",
        texts: &[],
        refused: false,
        example: None,
    },
    Deviation {
        what: "resources",
        reason: "Go has no budget and takes all there is, so it is not asked",
        texts: &[],
        refused: true,
        example: None,
    },
];

/// Returns the reason why this template may differ.
pub(crate) fn reason(template: &str, ours: &Verdict) -> Option<&'static str> {
    let refuses = matches!(ours, Verdict::RenderError(_) | Verdict::ParseError);
    let fits = |deviation: &&Deviation| {
        let texts = deviation.texts;
        !texts.is_empty()
            && texts.iter().all(|text| template.contains(text))
            && (refuses || !deviation.refused)
    };
    DEVIATIONS
        .iter()
        .find(fits)
        .map(|deviation| deviation.reason)
}
