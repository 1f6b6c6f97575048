//! Generates templates: every function with many arguments, and whole templates from a grammar.

/// A small random generator, reproducible from a seed (splitmix64).
pub(crate) struct RandomGenerator(u64);

impl RandomGenerator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).expect("small")
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Functions that are not compared, mostly because their results differ between runs or take up to a second.
const EXCLUDED_FUNCTIONS: &[&str] = &[
    "ago",
    "bcrypt",
    "buildCustomCert",
    "derivePassword",
    "encryptAES",
    "genCA",
    "genCAWithKey",
    "genPrivateKey",
    "genSelfSignedCert",
    "genSelfSignedCertWithKey",
    "genSignedCert",
    "genSignedCertWithKey",
    "htpasswd",
    "now",
    "randAlpha",
    "randAlphaNum",
    "randAscii",
    "randBytes",
    "randInt",
    "randNumeric",
    "shuffle",
    "uuidv4",
];

/// Functions that use the current time unless the argument is a date.
const DATE_FUNCTIONS: &[&str] = &[
    "date",
    "dateInZone",
    "date_in_zone",
    "durationRound",
    "htmlDate",
    "htmlDateInZone",
];

const TEXTS: &[&str] = &[
    r#""""#,
    r#""a""#,
    r#""abc""#,
    r#""a,b,,c""#,
    r#"",""#,
    r#""Hello World foo_bar-baz""#,
    r#""1.2.3""#,
    r#"">=1.2, <2""#,
    r#""12""#,
    r#""0x1F""#,
    r#""-7.50""#,
    r#""b+|(c)""#,
    r#""$1x${0}""#,
    r#""aGVsbG8=""#,
    r#""/a/../b/./c.txt""#,
    r#""1h30m""#,
    r#""{\"k\": [1, 2.5, null]}""#,
    "\"\\xff\\x80z\"",
    ".bytes",
    ".uni",
    ".password",
    ".text",
    ".pem",
    ".url",
    ".json",
    ".list",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "5",
    "-1",
    "-3",
    "7",
    "100",
    "2.5",
    "-0.4",
    "1e3",
    "0.1",
    "(int64 7)",
    "(float64 3)",
    "'x'",
];

const OTHER_ARGUMENTS: &[&str] = &[
    "nil",
    ".",
    ".missing",
    "true",
    "false",
    "(list)",
    r#"(list 1 "a" nil 2.5 "a")"#,
    r#"(list "b" "a")"#,
    r#"(splitList "," "b,a,c")"#,
    "(until 3)",
    r#"(dict "a" 1)"#,
    r#"(dict "b" (dict "c" "d"))"#,
    "(dict)",
    r#"(list (list 1 2) (list "x"))"#,
    r#"(toDate "2006-01-02" "2024-02-29")"#,
    r#"(semver "1.2.3-rc.1+m")"#,
    "(coalesce)",
    "1i",
    r#"(split "," "x,y")"#,
    r#"(index "abc" 1)"#,
    "(rest (list))",
];

fn argument<'a>(random: &mut RandomGenerator) -> &'a str {
    match random.below(10) {
        0..=4 => random.pick(TEXTS),
        5..=6 => random.pick(NUMBERS),
        _ => random.pick(OTHER_ARGUMENTS),
    }
}

/// Types of arguments and, after `>`, of the result: T text, I int, N anything numeric, L list, D dict, A anything, B
/// boolean, J JSON, U URL, X date, O time zone, Z duration, V version, S text of a version, C version constraint, R
/// pattern, F layout or format, * any number of the type before it.
const SIGNATURES: &str = "
    upper:T>T lower:T>T title:T>T untitle:T>T swapcase:T>T trim:T>T nospace:T>T initials:T>T camelcase:T>T
    snakecase:T>T kebabcase:T>T quote:A*>T squote:A*>T cat:A*>T toString:A>T trimAll:TT>T trimPrefix:TT>T
    trimSuffix:TT>T contains:TT>B hasPrefix:TT>B hasSuffix:TT>B repeat:IT>T replace:TTT>T trunc:IT>T substr:IIT>T
    abbrev:IT>T abbrevboth:IIT>T indent:IT>T nindent:IT>T plural:TTI>T wrap:IT>T wrapWith:ITT>T
    join:TL>T splitList:TT>L split:TT>A splitn:TIT>A toStrings:A>L sortAlpha:L>L
    list:A*>L tuple:A*>L append:LA>L prepend:LA>L first:L>A last:L>A rest:L>L initial:L>L reverse:L>L uniq:L>L
    without:LA*>L has:AL>B compact:L>L slice:LII>L concat:L*>L chunk:IL>L until:I>L untilStep:III>L seq:I*>T
    dict:TATA>D get:DT>A set:DTA>D unset:DT>D hasKey:DT>B pluck:TD*>L pick:DT*>D omit:DT*>D dig:TAD>A merge:DD*>D
    mergeOverwrite:DD*>D mustMerge:DD>D mustMergeOverwrite:DD>D deepCopy:A>A deepEqual:AA>B
    default:AA>A empty:A>B coalesce:A*>A any:A*>B all:A*>B ternary:AAB>A typeOf:A>T kindOf:A>T typeIs:TA>B
    typeIsLike:TA>B kindIs:TA>B
    add:N*>N add1:N>N sub:NN>N mul:NN*>N div:NN>N mod:NN>N max:NN*>N min:NN*>N biggest:NN>N maxf:NN>N minf:NN>N
    addf:N*>N add1f:N>N subf:NN>N mulf:NN*>N divf:NN>N floor:N>N ceil:N>N round:NI>N int:A>I int64:A>N float64:A>N
    atoi:T>A toDecimal:A>N len:T>I len:L>I len:D>I
    toJson:A>T toPrettyJson:A>T toRawJson:A>T mustToJson:A>T mustToRawJson:A>T fromJson:J>A mustFromJson:J>A
    b64enc:T>T b64dec:T>T b32enc:T>T b32dec:T>T sha1sum:T>T sha256sum:T>T sha512sum:T>T adler32sum:T>T
    regexMatch:RT>B regexFind:RT>T regexFindAll:RTI>L regexSplit:RTI>L regexReplaceAll:RTT>T
    regexReplaceAllLiteral:RTT>T regexQuoteMeta:T>T mustRegexMatch:RT>B
    base:T>T dir:T>T clean:T>T ext:T>T isAbs:T>B osBase:T>T osDir:T>T urlParse:U>D urlJoin:D>T urlquery:A*>T
    html:A*>T js:A*>T print:A*>T println:A*>T printf:FA*>T printf:FAAA>T index:LI>A index:DT>A
    eq:NN>B eq:TT*>B ne:TT>B lt:TT>B le:II>B gt:TT>B ge:NN>B and:AA*>A or:AA*>A not:A>B
    semver:S>V semverCompare:CS>B toDate:FT>X mustToDate:FT>X dateModify:ZX>X date:FX>T htmlDate:X>T
    dateInZone:FXO>T htmlDateInZone:XO>T unixEpoch:X>T duration:A>T durationRound:Z>T
";

const PATTERNS: &[&str] = &[
    r#""a""#,
    r#""[a-c]+""#,
    r#""(\\w+) (\\w+)""#,
    r#""^$""#,
    r#""""#,
    r#""o(.)""#,
    r#""(?i)THE|dog""#,
    r#""\\b""#,
    r#""\\s*""#,
    r#""(?P<x>[^,]*),""#,
    r#""\\d{2,3}""#,
    r#"".""#,
    r#""(?s).+?\\n""#,
    r#""[[:upper:]]""#,
    r#""\\pL+""#,
    r#""(a|b)*c?""#,
    r#""x*""#,
    "`\\Qa.b\\E|-`",
    "`[^\\x00-\\x7F]`",
    "`(?U)a+|b`",
    "`^(?m)-.*$`",
];

const FORMATS: &[&str] = &[
    r#""%v""#,
    r#""%d""#,
    r#""%s|%q""#,
    r#""%5.2f|""#,
    r#""%-8v|%+d""#,
    r#""%x % X %#x""#,
    r#""%T %#v""#,
    r#""%08.3f""#,
    r#""%[2]v %[1]v""#,
    r#""%*d""#,
    r#""%c%U%#U""#,
    r#""%t %e %G""#,
    r#""%+q %#q""#,
    r#""%o %O %b""#,
    r#""%6.2v%%""#,
    r#""2006-01-02""#,
    r#""2006-01-02T15:04:05Z07:00""#,
    r#""Jan _2, 2006 at 3:04pm (MST)""#,
    r#""Mon 02 January 06 .000""#,
    r#""15h04 -0700 __2 002""#,
    r#""%""#,
    r#""%!""#,
    r#""%z %-""#,
];

const DATE_EXPRESSIONS: &[&str] = &[
    r#"(toDate "2006-01-02" "2024-02-29")"#,
    r#"(toDate "2006-01-02T15:04:05Z07:00" "1999-12-31T23:59:59.5+02:00")"#,
    r#"(toDate "Jan 2 2006 MST" "Mar 3 2030 CET")"#,
    r#"(dateModify "-36h" (toDate "2006" "2001"))"#,
];

fn leaf<'a>(random: &mut RandomGenerator, kind: u8) -> &'a str {
    match kind {
        b'T' => random.pick(TEXTS),
        b'I' => random.pick(&["0", "1", "2", "3", "4", "7", "12", "-1", "-2"]),
        b'N' => random.pick(NUMBERS),
        b'L' => random.pick(&[
            "(list)",
            r#"(list 1 "a" nil 2.5 "a")"#,
            r#"(list "b" "a" "c")"#,
            r#"(splitList "," .list)"#,
            "(until 4)",
            r#"(list (list 1 2) (dict "x" 1))"#,
            "(rest (list))",
            r#"(list true false "" 0)"#,
        ]),
        b'D' => random.pick(&[
            "(dict)",
            r#"(dict "a" 1)"#,
            r#"(dict "b" (dict "c" "d"))"#,
            r#"(dict "a" (list 1 2))"#,
            r#"(dict "a" "" "b" (dict "x" nil))"#,
            r"(fromJson .json)",
            r#"(dict "b" (dict "c" (dict "e" 5)) "z" 0)"#,
        ]),
        b'B' => random.pick(&["true", "false", r"(eq 1 1)", r"(empty .empty)"]),
        b'X' => random.pick(DATE_EXPRESSIONS),
        b'V' => random.pick(&[r#"(semver "1.2.3")"#, r#"(semver "v2-beta.1")"#]),
        b'R' => random.pick(PATTERNS),
        b'F' => random.pick(FORMATS),
        b'Z' => random.pick(&[
            r#""1h30m""#,
            r#""-36h""#,
            r#""0.5s""#,
            r#""90000h""#,
            r#""x""#,
            r#""1500ms2us""#,
        ]),
        b'O' => random.pick(&[
            r#""UTC""#,
            r#""Europe/Berlin""#,
            r#""America/New_York""#,
            r#""""#,
            r#""No/Where""#,
        ]),
        b'U' => random.pick(&[
            ".url",
            r#""http://a/b?c#d""#,
            r#""mailto:x@y.z""#,
            r#""//h:1/p q""#,
            r#""a:b:c""#,
            r#""http://[::1%25e]:80/""#,
            r#""postgres://u:p%2Fw@db:5432/n?sslmode=disable""#,
            r#""/%41%2f?""#,
            r#""x://a b/""#,
        ]),
        b'J' => random.pick(&[
            ".json",
            r#""[1, 2.50, 1e3, \"\\u00e9\\ud83d\\ude00\"]""#,
            r#""{\"a\":{}}""#,
            r#""nope""#,
            "`\"x\" `",
        ]),
        b'S' => random.pick(&[
            r#""1.2.3""#,
            r#""v1.3""#,
            r#""2.0.0-rc.1""#,
            r#""0.4.9+b""#,
            r#""1.x""#,
            r#""3""#,
        ]),
        b'C' => random.pick(&[
            r#""^1.2""#,
            r#""~1.2.0""#,
            r#"">=1.2, <2 || 3.x""#,
            r#""1.2 - 2.0""#,
            r#""!=1.2.3""#,
            r#"">1.2-0""#,
            r#""*""#,
            r#""^0.4""#,
            r#""<=1.x""#,
            r#""=>1""#,
        ]),
        _ => argument(random),
    }
}

/// Returns an expression, usually of the requested type.
fn expression(random: &mut RandomGenerator, kind: u8, depth: usize) -> String {
    let fitting: Vec<&str> = if depth > 0 && random.below(3) > 0 {
        signatures()
            .filter(|signature| signature.as_bytes()[signature.len() - 1] == kind || kind == b'A')
            .collect()
    } else {
        Vec::new()
    };
    if fitting.is_empty() {
        return leaf(random, kind).to_owned();
    }
    let signature = random.pick(&fitting);
    format!("({})", call(random, signature, depth - 1))
}

fn signatures() -> impl Iterator<Item = &'static str> {
    SIGNATURES.split_whitespace()
}

/// Returns a call with arguments of the function's types, sometimes with a wrong type.
fn call(random: &mut RandomGenerator, signature: &str, depth: usize) -> String {
    let (name, rest) = signature.split_once(':').expect("a colon");
    let (kinds, _) = rest.split_once('>').expect("a result");
    let mut text = name.to_owned();
    let kinds = kinds.as_bytes();
    for (at, &kind) in kinds.iter().enumerate() {
        let (kind, count) = match (kind, kinds.get(at + 1)) {
            (b'*', _) => (kinds[at - 1], random.below(3)),
            (kind, Some(b'*')) => (kind, random.below(2)),
            (kind, _) => (kind, 1),
        };
        let kind = if random.below(40) == 0 { b'A' } else { kind };
        for _ in 0..count {
            text += &format!(" {}", expression(random, kind, depth));
        }
    }
    text
}

/// Returns calls with fitting arguments, `samples` for each of the [`SIGNATURES`].
pub(crate) fn fitting_calls(samples: usize, seed: u64) -> Vec<String> {
    let mut random = RandomGenerator::new(seed);
    let mut templates = Vec::new();
    for signature in signatures() {
        for _ in 0..samples {
            templates.push(format!("{{{{ {} }}}}", call(&mut random, signature, 2)));
        }
    }
    templates
}

/// Returns a template with a call; sorts the result if it shows the order of a map.
fn with_sorted_result(name: &str, call: &str) -> String {
    match name {
        "keys" | "values" => format!("{{{{ {call} | sortAlpha }}}}"),
        _ => format!("{{{{ {call} }}}}"),
    }
}

fn is_usable(name: &str) -> bool {
    !EXCLUDED_FUNCTIONS.contains(&name) && !DATE_FUNCTIONS.contains(&name)
}

/// Returns calls of every function that is not excluded: without arguments, with each single argument, and `samples`
/// calls with random arguments for each number of arguments from two to four.
pub(crate) fn calls<'n>(
    names: impl Iterator<Item = &'n str>,
    samples: usize,
    seed: u64,
) -> Vec<String> {
    let mut random = RandomGenerator::new(seed);
    let mut templates = Vec::new();
    for name in names.filter(|name| is_usable(name)) {
        templates.push(with_sorted_result(name, name));
        for argument in TEXTS.iter().chain(NUMBERS).chain(OTHER_ARGUMENTS) {
            templates.push(with_sorted_result(name, &format!("{name} {argument}")));
        }
        for count in 2..=4 {
            for _ in 0..samples {
                let arguments: Vec<&str> = (0..count).map(|_| argument(&mut random)).collect();
                templates.push(with_sorted_result(
                    name,
                    &format!("{name} {}", arguments.join(" ")),
                ));
            }
        }
    }
    templates
}

/// Returns a template from the grammar of actions, blocks and expressions.
pub(crate) fn template(random: &mut RandomGenerator, names: &[&str]) -> String {
    let mut builder = TemplateBuilder {
        random,
        names,
        variables: vec!["$".to_owned()],
        loops: 0,
        text: String::new(),
    };
    let count = 1 + builder.random.below(5);
    builder.nodes(count, 0);
    builder.text
}

struct TemplateBuilder<'d, 'n> {
    random: &'d mut RandomGenerator,
    names: &'n [&'n str],
    variables: Vec<String>,
    loops: usize,
    text: String,
}

impl TemplateBuilder<'_, '_> {
    fn nodes(&mut self, count: usize, depth: usize) {
        for _ in 0..count {
            self.node(depth);
        }
    }

    fn open(&mut self) -> &'static str {
        if self.random.below(8) == 0 {
            "{{- "
        } else {
            "{{"
        }
    }

    fn close(&mut self) -> &'static str {
        if self.random.below(8) == 0 {
            " -}}"
        } else {
            "}}"
        }
    }

    fn action(&mut self, inner: &str) {
        let (open, close) = (self.open(), self.close());
        self.text += &format!("{open}{inner}{close}");
    }

    fn node(&mut self, depth: usize) {
        match self.random.below(if depth > 2 { 5 } else { 14 }) {
            0 => {
                self.text += self
                    .random
                    .pick(&["text ", " \n\t ", "{ } % \" '", "é\n", "x"]);
            }
            1..=3 => {
                let pipe = self.pipe(0);
                self.action(&pipe);
            }
            4 => self.declaration(),
            5 | 6 => self.branch("if", depth),
            7 | 8 => self.branch("with", depth),
            9 | 10 => self.range(depth),
            11 if depth == 0 => self.definition(),
            12 if self.loops > 0 => {
                let jump = self.random.pick(&["break", "continue"]);
                self.action(jump);
            }
            _ => self.action("/* a comment */"),
        }
    }

    fn declaration(&mut self) {
        let value = self.pipe(0);
        let is_assignment = self.random.below(3) == 0 && self.variables.len() > 1;
        if is_assignment {
            let name = self.variable();
            self.action(&format!("{name} = {value}"));
        } else {
            let name = format!("${}", self.random.pick(&["a", "b", "c"]));
            self.action(&format!("{name} := {value}"));
            self.variables.push(name);
        }
    }

    fn variable(&mut self) -> String {
        let at = self.random.below(self.variables.len());
        self.variables[at].clone()
    }

    fn branch(&mut self, keyword: &str, depth: usize) {
        let outer = self.variables.len();
        let mut head = self.pipe(0);
        if self.random.below(4) == 0 {
            head = format!("$v := {head}");
            self.variables.push("$v".to_owned());
        }
        self.action(&format!("{keyword} {head}"));
        let count = self.random.below(3);
        self.nodes(count, depth + 1);
        if self.random.below(3) == 0 {
            let head = self.pipe(0);
            self.action(&format!("else {keyword} {head}"));
            self.nodes(1, depth + 1);
        }
        if self.random.below(2) == 0 {
            self.action("else");
            self.nodes(1, depth + 1);
        }
        self.action("end");
        self.variables.truncate(outer);
    }

    fn range(&mut self, depth: usize) {
        let outer = self.variables.len();
        let subject = match self.random.below(4) {
            0 => self.pipe(0),
            _ => self.random.pick(OTHER_ARGUMENTS).to_owned(),
        };
        let head = match self.random.below(4) {
            0 => {
                self.variables.push("$i".to_owned());
                format!("$i := {subject}")
            }
            1 => {
                self.variables.extend(["$k".to_owned(), "$v".to_owned()]);
                format!("$k, $v := {subject}")
            }
            _ => subject,
        };
        self.action(&format!("range {head}"));
        self.loops += 1;
        let count = 1 + self.random.below(2);
        self.nodes(count, depth + 1);
        self.loops -= 1;
        if self.random.below(3) == 0 {
            self.action("else");
            self.nodes(1, depth + 1);
        }
        self.action("end");
        self.variables.truncate(outer);
    }

    fn definition(&mut self) {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let block = self.random.below(2) == 0;
        let name = self.random.pick(&["one", "two", "three"]);
        if block {
            self.variables.clone_from(&variables);
            let pipe = self.pipe(0);
            self.variables = vec!["$".to_owned()];
            self.action(&format!("block {name:?} {pipe}"));
        } else {
            self.action(&format!("define {name:?}"));
        }
        self.nodes(1, 3);
        self.action("end");
        self.variables = variables;
        if !block {
            let pipe = self.pipe(0);
            self.action(&format!("template {name:?} {pipe}"));
        }
    }

    fn pipe(&mut self, depth: usize) -> String {
        let mut text = self.command(depth);
        while self.random.below(3) == 0 {
            let name = self.name();
            text += &format!(" | {name}");
            for _ in 0..self.random.below(3) {
                text += &format!(" {}", self.operand(depth));
            }
        }
        text
    }

    fn name(&mut self) -> String {
        loop {
            let name = self.names[self.random.below(self.names.len())];
            if is_usable(name) && !matches!(name, "keys" | "values") {
                return name.to_owned();
            }
        }
    }

    fn command(&mut self, depth: usize) -> String {
        if self.random.below(3) == 0 {
            return self.operand(depth);
        }
        let mut text = self.name();
        for _ in 0..self.random.below(4) {
            text += &format!(" {}", self.operand(depth));
        }
        text
    }

    fn operand(&mut self, depth: usize) -> String {
        match self.random.below(16) {
            12.. => expression(self.random, b'A', 3),
            0..=5 => argument(self.random).to_owned(),
            6 | 7 => self.variable(),
            8 => format!(
                "{}{}",
                self.variable(),
                self.random.pick(&[".a", ".b.c", ".user"])
            ),
            9 => "`raw\n\"text\"`".to_owned(),
            _ if depth < 2 => format!(
                "({}){}",
                self.pipe(depth + 1),
                self.random.pick(&["", "", "", ".a", ".b.c"])
            ),
            _ => ".user".to_owned(),
        }
    }
}
