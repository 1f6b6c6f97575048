//! Evaluates the actions of a template, and finds the actions that output a literal: directly, from a variable, or from
//! another template of the same file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use kubeseal_library::walk::names_kind;
use regex::Regex;

use super::super::connection_string::{VARIABLE, has_only_variables_as_credentials};
use super::super::placeholder::is_whole_placeholder;
use super::expression::{self, Call, Expression, Operand, Pipeline};
use super::functions::{
    drops_argument, is_common_chart_option, is_date_format, is_separator, outputs_no_argument,
};
use super::pieces::{Action, Form, Piece, Pieces};

/// The maximum number of fields in a path that are looked up one by one.
const MAX_FIELDS: usize = 16;

/// Functions that change their first argument, a dictionary.
const CHANGING: [&str; 3] = ["merge", "mergeOverwrite", "mustMergeOverwrite"];

/// Matches the verbs of `printf`.
static VERB: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"%[-+# 0]*[0-9]*(\.[0-9]+)?[a-zA-Z]").ok());

/// The output of a template action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Effect {
    /// The action outputs nothing.
    Silent,
    /// The action outputs nothing, and begins an alternative to the text before it.
    Branch,
    Output {
        /// Whether the output contains a literal.
        is_literal: bool,
    },
    /// The action outputs a Secret that another template of the file defines, and passes a literal to it.
    Secret,
}

/// The variables, fields and templates in a template text that contain literals.
#[derive(Debug, Default)]
pub(in super::super) struct Literals<'o> {
    /// The literals of the surrounding text.
    outer: Option<&'o Literals<'o>>,
    /// Variables such as `$p`, and paths such as `.Values.p`.
    names: BTreeSet<String>,
    /// The index of each template in `definitions`.
    templates: BTreeMap<String, usize>,
    definitions: Vec<Template>,
    /// The open `if`, `with`, `range`, `define` and `block`, the innermost last.
    blocks: Vec<Block>,
}

/// A template that the text defines.
#[derive(Debug, Clone, Copy, Default)]
struct Template {
    /// Whether the template outputs a literal.
    is_literal: bool,
    /// Whether the template contains the `kind` of a Secret.
    is_secret: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// Whether `.` contains a literal.
    is_dot_literal: bool,
    /// The index in `definitions` of the template around the block.
    template: Option<usize>,
}

impl<'o> Literals<'o> {
    /// Reads a whole template, so that a literal is known even before its definition.
    pub(in super::super) fn of(text: &str) -> Self {
        let mut literals = Self::default();
        literals.read(text);
        literals
    }

    /// Reads a string inside the text of `self`.
    pub(in super::super) fn nested(&'o self, text: &str) -> Self {
        let mut literals = self.inside();
        literals.read(text);
        literals
    }

    /// Returns an empty state for a string inside the text of `self`.
    pub(in super::super) fn inside(&'o self) -> Self {
        Self {
            outer: Some(self),
            ..Self::default()
        }
    }

    fn read(&mut self, text: &str) {
        for piece in Pieces::of(text) {
            match piece {
                Piece::Text(text) => self.text(text),
                Piece::Action(action) => {
                    if self.action(&action) == (Effect::Output { is_literal: true }) {
                        self.mark_template();
                    }
                }
            }
        }
        self.blocks.clear();
    }

    fn text(&mut self, text: &str) {
        if self.template().is_some() && text.contains(char::is_alphanumeric) {
            let is_secret = names_kind(text.as_bytes(), &["Secret"]);
            self.mark_template();
            if let Some(template) = self.template() {
                template.is_secret |= is_secret;
            }
        }
    }

    /// Evaluates an action, and returns its effect.
    pub(in super::super) fn action(&mut self, action: &Action<'_>) -> Effect {
        match action.form {
            Form::Comment | Form::JinjaComment => Effect::Silent,
            Form::Statement => self.statement(action),
            Form::Expression => self.expression(action),
        }
    }

    fn statement(&mut self, action: &Action<'_>) -> Effect {
        let keyword = action.keyword();
        let rest = action.arguments();
        match keyword {
            "else" | "elif" | "elsif" => return Effect::Branch,
            "set" if !rest.contains('=') => {
                // The text until `endset` is the value.
                self.names.insert(rest.to_owned());
            }
            "set" => self.assign(rest),
            "for" => {
                if let Some((name, list)) = rest.split_once(" in ") {
                    self.assign(&format!("{name} = {list}"));
                }
            }
            _ => self.assign(action.content),
        }
        Effect::Silent
    }

    fn expression(&mut self, action: &Action<'_>) -> Effect {
        let keyword = action.keyword();
        let rest = action.arguments();
        match keyword {
            "if" => {
                self.assign(rest);
                self.open(self.is_dot_literal());
            }
            "with" | "range" => {
                let is_literal = self.subject(rest, keyword == "range");
                self.open(is_literal);
            }
            "define" | "block" => {
                let template = first_text(rest).map(|name| self.number_of(name));
                self.blocks.push(Block {
                    is_dot_literal: false,
                    template,
                });
            }
            "end" => drop(self.blocks.pop()),
            "break" | "continue" => {}
            "else" | "elif" | "elsif" => {
                self.alternative(rest);
                return Effect::Branch;
            }
            _ => return self.output(action.content),
        }
        Effect::Silent
    }

    fn output(&mut self, content: &str) -> Effect {
        let Some(expression) = expression::parse(content) else {
            return Effect::Output { is_literal: true };
        };
        self.mark_changed(&expression.pipeline);
        if self.is_secret(&expression.pipeline) {
            return Effect::Secret;
        }
        if expression.targets.is_empty() {
            let is_literal = self.contains_literal(&expression.pipeline, true);
            return Effect::Output { is_literal };
        }
        self.mark_targets(&expression, true);
        Effect::Silent
    }

    fn assign(&mut self, content: &str) {
        if let Some(expression) = expression::parse(content) {
            self.mark_changed(&expression.pipeline);
            self.mark_targets(&expression, true);
        }
    }

    /// Returns whether the subject of `with` or `range` contains a literal. A number in `range` is most likely a number
    /// of iterations: `range until 3`.
    fn subject(&mut self, content: &str, is_range: bool) -> bool {
        let Some(expression) = expression::parse(content) else {
            return true;
        };
        self.mark_targets(&expression, !is_range);
        self.contains_literal(&expression.pipeline, !is_range)
    }

    fn alternative(&mut self, rest: &str) {
        self.blocks.pop();
        let outer = self.is_dot_literal();
        let (keyword, condition) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let is_literal = if keyword == "with" {
            self.subject(condition, false)
        } else {
            self.assign(condition);
            outer
        };
        self.open(is_literal);
    }

    fn open(&mut self, is_dot_literal: bool) {
        let template = self.blocks.last().and_then(|block| block.template);
        self.blocks.push(Block {
            is_dot_literal,
            template,
        });
    }

    fn is_dot_literal(&self) -> bool {
        self.blocks.last().is_some_and(|block| block.is_dot_literal)
    }

    /// Returns the template around the current position.
    fn template(&mut self) -> Option<&mut Template> {
        let number = self.blocks.last()?.template?;
        self.definitions.get_mut(number)
    }

    fn number_of(&mut self, name: &str) -> usize {
        let next = self.definitions.len();
        let number = *self.templates.entry(name.to_owned()).or_insert(next);
        if number == next {
            self.definitions.push(Template::default());
        }
        number
    }

    /// Records that the template around the current position outputs a literal.
    fn mark_template(&mut self) {
        if let Some(template) = self.template() {
            template.is_literal = true;
        }
    }

    fn mark_targets(&mut self, expression: &Expression<'_>, counts_numbers: bool) {
        if !expression.targets.is_empty()
            && self.contains_literal(&expression.pipeline, counts_numbers)
        {
            let targets = expression
                .targets
                .iter()
                .map(|name| without_root(name).to_owned());
            self.names.extend(targets);
        }
    }

    /// Records the dictionaries that get a literal.
    fn mark_changed(&mut self, pipeline: &Pipeline<'_>) {
        for call in pipeline {
            match call.as_slice() {
                [Operand::Name("set"), Operand::Name(target), key, value @ ..]
                    if value.is_empty()
                        || value.iter().any(|value| self.is_literal(value, true)) =>
                {
                    let field = match key {
                        Operand::Text(key) => format!(".{key}"),
                        _ => String::new(),
                    };
                    self.names.insert(without_root(target).to_owned() + &field);
                }
                [Operand::Name(function), Operand::Name(target), others @ ..]
                    if CHANGING.contains(function)
                        && others.iter().any(|other| self.is_literal(other, true)) =>
                {
                    self.names.insert(without_root(target).to_owned());
                }
                _ => {}
            }
            for operand in call {
                if let Operand::Nested(pipeline) = operand {
                    self.mark_changed(pipeline);
                }
            }
        }
    }

    /// Returns whether the result of a pipeline contains a literal.
    fn contains_literal(&self, pipeline: &Pipeline<'_>, counts_numbers: bool) -> bool {
        let mut is_literal = false;
        for (at, call) in pipeline.iter().enumerate() {
            is_literal = match call.first() {
                // The piped value is not part of the result either.
                Some(Operand::Name(function)) if outputs_no_argument(function) => false,
                _ => is_literal || self.is_literal_call(call, at > 0, counts_numbers),
            };
        }
        is_literal
    }

    fn is_literal_call(&self, call: &Call<'_>, is_piped: bool, counts_numbers: bool) -> bool {
        let [Operand::Name(function), arguments @ ..] = call.as_slice() else {
            return call
                .iter()
                .any(|operand| self.is_literal(operand, counts_numbers));
        };
        if self.has_literal_value(function) {
            return true;
        }
        if let ("include" | "template", [template, others @ ..]) = (*function, arguments) {
            return self.any_template(template, |template| template.is_literal)
                || self.passes_literal(template, others);
        }
        arguments.iter().enumerate().any(|(position, argument)| {
            !drops_argument(function, position, arguments.len(), is_piped)
                && !is_exempt_text(function, position, argument)
                && self.is_literal(argument, counts_numbers)
        })
    }

    /// Returns whether an action outputs a Secret that a template of the file defines, and passes a literal to it.
    fn is_secret(&self, pipeline: &Pipeline<'_>) -> bool {
        match pipeline.first().map(Vec::as_slice) {
            Some([Operand::Name("include" | "template"), template, others @ ..]) => {
                self.any_template(template, |template| template.is_secret)
                    && self.passes_literal(template, others)
            }
            _ => false,
        }
    }

    fn passes_literal(&self, template: &Operand<'_>, arguments: &[Operand<'_>]) -> bool {
        let mut values = arguments
            .iter()
            .flat_map(|argument| values_for(template, argument));
        values.any(|value| self.is_literal(value, true))
    }

    fn is_literal(&self, operand: &Operand<'_>, counts_numbers: bool) -> bool {
        match operand {
            Operand::Text(text) => is_value(text),
            Operand::Number => counts_numbers,
            Operand::Name(name) => self.has_literal_value(name),
            Operand::Nested(pipeline) => self.contains_literal(pipeline, counts_numbers),
        }
    }

    /// Returns whether a variable or field contains a literal, or is a part of one that does.
    fn has_literal_value(&self, name: &str) -> bool {
        let is_relative = name.starts_with('.') && self.is_dot_literal();
        is_relative || self.has_name(without_root(name))
    }

    fn has_name(&self, name: &str) -> bool {
        let dots = name.char_indices().skip(1).filter(|(_, c)| *c == '.');
        let ends = dots.map(|(at, _)| at).take(MAX_FIELDS);
        let mut prefixes = ends.chain([name.len()]).map(|end| &name[..end]);
        prefixes.any(|prefix| self.names.contains(prefix))
            || self.outer.is_some_and(|outer| outer.has_name(name))
    }

    /// Returns whether the template with this name has a property. If the name is not a literal, returns whether any
    /// template has the property.
    fn any_template(&self, name: &Operand<'_>, property: fn(&Template) -> bool) -> bool {
        let is_found = match name {
            Operand::Text(name) => {
                let number = self.templates.get(*name);
                number.is_some_and(|number| property(&self.definitions[*number]))
            }
            _ => self.definitions.iter().any(property),
        };
        is_found
            || self
                .outer
                .is_some_and(|outer| outer.any_template(name, property))
    }
}

/// Returns a path of fields in the same form wherever it begins: `$.Values.p` and `.Values.p` are the same field at the
/// top of a template.
fn without_root(name: &str) -> &str {
    name.strip_prefix('$')
        .filter(|path| path.starts_with('.'))
        .unwrap_or(name)
}

fn first_text(content: &str) -> Option<&str> {
    let expression = expression::parse(content)?;
    match expression.pipeline.first()?.first()? {
        Operand::Text(text) => Some(text),
        _ => None,
    }
}

/// Returns the parts of an argument for a template that may be values. Omits the options in a dictionary for a template
/// of Bitnami's library chart.
fn values_for<'a, 'p>(template: &Operand<'a>, argument: &'p Operand<'a>) -> Vec<&'p Operand<'a>> {
    let (Operand::Text(template), Operand::Nested(pipeline)) = (template, argument) else {
        return vec![argument];
    };
    let Some([Operand::Name("dict"), entries @ ..]) = pipeline.first().map(Vec::as_slice) else {
        return vec![argument];
    };
    let value = |entry: &'p [Operand<'a>]| match entry {
        [Operand::Text(key), _] if is_common_chart_option(template, key) => None,
        [_, value] => Some(value),
        _ => None,
    };
    if pipeline.len() == 1 {
        entries.chunks(2).filter_map(value).collect()
    } else {
        vec![argument]
    }
}

fn is_exempt_text(function: &str, position: usize, argument: &Operand<'_>) -> bool {
    let Operand::Text(text) = argument else {
        return false;
    };
    let is_format = || {
        let format = VERB.as_ref().map(|verb| verb.replace_all(text, VARIABLE));
        format.is_some_and(|format| {
            !format.contains(char::is_alphanumeric) || has_only_variables_as_credentials(&format)
        })
    };
    is_separator(function, position, text)
        || is_date_format(function, position, text)
        || function == "printf" && position == 0 && is_format()
}

fn is_value(text: &str) -> bool {
    text.contains(char::is_alphanumeric) && !is_whole_placeholder(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs_literal(text: &str) -> bool {
        let literals = Literals::of(text);
        let mut inside = literals.inside();
        Pieces::of(text).any(|piece| match piece {
            Piece::Action(action) => inside.action(&action) == Effect::Output { is_literal: true },
            Piece::Text(_) => false,
        })
    }

    #[test]
    fn names_conditions_and_lengths_do_not_count_as_literals() {
        for text in [
            "{{ .Values.a }}",
            "{{ index .Values \"my-key\" | quote }}",
            "{{ get .Values \"my-key\" }}",
            "{{ include \"app.password\" . | b64enc }}",
            "{{ required \"a password is needed\" .Values.a }}",
            "{{ (lookup \"v1\" \"Secret\" .Release.Namespace \"db\").data.password }}",
            "{{ randAlphaNum 32 | b64enc }}",
            "{{ printf \"%s:%-10.2v\" .a .b }}",
            "{{ .Values.a | default \"\" | trunc 63 | trimSuffix \"-\" | replace \"+\" \"_\" }}",
            "{{ .Values.a | default \"CHANGEME\" }}",
            "{{ if eq .a \"b\" }}{{ .c }}{{ else if hasKey .d \"e\" }}{{ .f }}{{ end }}",
            "{{ join \",\" .Values.a }}",
            "{{ dig \"a\" \"b\" \"\" .Values }}",
            "{{ .Values | dig \"a\" \"b\" \"\" }}",
            "{{ dict \"a\" .b \"c\" .d | toJson }}",
            "{{ $_ := set .Values \"a\" .b }}{{ .Values.a }}",
            "{{ range $i := until 3 }}{{ $i }}{{ end }}",
            "{{ range $k, $v := .Values.a }}{{ $k }}{{ $v }}{{ end }}",
            "{{ with \"a\" }}{{ end }}{{ . }}",
            "{{ with \"a\" }}{{ else }}{{ .b }}{{ end }}",
            "{{ $n := 32 }}{{ randAlphaNum $n }}",
            "{{ define \"p\" }}{{ .a }}{{ end }}{{ include \"p\" . }}",
            "{{ include \"common.secrets.passwords.manage\" (dict \"secret\" (include \"common.names.fullname\" .) \
             \"key\" \"pw\" \"length\" 10 \"providedValues\" (list \"auth.password\") \"context\" $) }}",
            "{{ include \"common.secrets.passwords.manage\" (dict \"secret\" \"db\" \"key\" \"pw\" \"context\" $) }}",
            "{{ .a | default (dateInZone \"2006-01-02T15:04:05Z\" (now) \"UTC\") }}",
            "{{ now | date \"Jan 2, 2006 at 3:04pm (MST)\" }}",
            "{{ derivePassword 1 \"long\" .a .b .c }}",
            "{{ derivePassword 1 \"long\" .a \"app\" \"example.com\" }}",
            "{{ regexReplaceAll \"[^a-z]\" .a \"-\" }}",
            "{{ mustRegexReplaceAllLiteral \"[^a-z]\" .a \"\" }}",
            "{{ .a | trimAll \"\\\"\" }}",
            "{{ mustRegexFind \"[a-z]+\" .a }}",
            "{{ printf \"postgres://%s:%s@%s\" .a .b .c | b64enc }}",
            "{{ lookup('env', 'TOKEN') }}",
            "{{ vault['token'].value }}",
            "{{ a if env == 'prod' else b }}",
            "<%= ENV['TOKEN'] %>",
            "{% if a == 'b' %}{{ c }}{% endif %}",
            "{% for a in b %}{{ a }}{% endfor %}",
        ] {
            assert!(!outputs_literal(text), "{text}");
        }
    }

    /// A template may define a Secret with the values that are passed to it.
    #[test]
    fn a_literal_passed_to_a_template_that_defines_a_secret_is_detected() {
        for (call, want) in [
            ("include \"s\" (dict \"pw\" \"hunter2\")", true),
            ("include $s (dict \"pw\" \"hunter2\")", true),
            ("template \"s\" \"hunter2\"", true),
            ("include \"s\" (dict \"pw\" .Values.pw)", false),
            ("include \"labels\" (dict \"a\" \"b\")", false),
        ] {
            let text =
                format!("{{{{ define \"s\" }}}}\nkind: Secret\n{{{{ end }}}}{{{{ {call} }}}}");
            let literals = Literals::of(&text);
            let mut inside = literals.inside();
            let is_secret = Pieces::of(&text).any(|piece| match piece {
                Piece::Action(action) => inside.action(&action) == Effect::Secret,
                Piece::Text(_) => false,
            });
            assert_eq!(is_secret, want, "{call}");
        }
    }

    /// Attack: a committer hides a value in an argument, a variable, a dictionary or another template.
    #[test]
    fn detects_values_in_arguments_variables_dictionaries_and_other_templates() {
        for text in [
            "{{ \"hunter2\" }}",
            "{{ `hunter2` | b64enc }}",
            "{{ +4711 }}",
            "{{ printf \"%d\" +4711 }}",
            "{{ printf \"hunter2%s\" .a }}",
            "{{ default \"hunter2\" .a }}",
            "{{ .a | default (lower \"HUNTER2\") }}",
            "{{ trimPrefix \"x\" \"xhunter2\" }}",
            "{{ trimSuffix \"x\" \"hunter2x\" }}",
            "{{ trunc 99 \"hunter2\" }}",
            "{{ substr 0 7 \"hunter2\" }}",
            "{{ replace \"x\" \"hunter2\" \"x\" }}",
            "{{ replace \"x\" \"y\" \"hunter2\" }}",
            "{{ join \"hunter2\" .a }}",
            "{{ indent 0 \"hunter2\" }}",
            "{{ (split \":\" \"a:hunter2\")._1 }}",
            "{{ index (splitList \":\" \"a:hunter2\") 1 }}",
            "{{ include \"p\" \"hunter2\" }}",
            "{{ include \"common.p\" (dict \"value\" \"hunter2\") }}",
            "{{ template \"p\" \"hunter2\" }}",
            "{{ dig \"a\" \"hunter2\" .Values }}",
            "{{ .Values | dig \"a\" \"hunter2\" }}",
            "{{ required \"x\" \"hunter2\" }}",
            "{{ dict \"pw\" \"hunter2\" | toJson }}",
            "{{ $d := dict \"pw\" \"hunter2\" }}{{ $d.pw }}",
            "{{ $d := dict \"pw\" \"hunter2\" }}{{ get $d \"pw\" }}",
            "{{ $d := dict \"pw\" \"hunter2\" }}{{ index $d \"pw\" }}",
            "{{ $d := dict \"pw\" \"hunter2\" }}{{ .a | default $d.pw }}",
            "{{ $d := dict }}{{ $_ := set $d \"pw\" \"hunter2\" }}{{ $d.pw }}",
            "{{ $_ := set .Values \"pw\" \"hunter2\" }}{{ $.Values.pw }}",
            "{{ $_ := \"hunter2\" | set .Values \"pw\" }}{{ .Values.pw }}",
            "{{ $_ := merge .Values (dict \"pw\" \"hunter2\") }}{{ .Values.pw }}",
            "{{ if $p := \"hunter2\" }}{{ $p }}{{ end }}",
            "{{ if .a }}{{ else if $p := \"hunter2\" }}{{ $p }}{{ end }}",
            "{{ with $p := \"hunter2\" }}{{ $p }}{{ end }}",
            "{{ with dict \"pw\" \"hunter2\" }}{{ .pw }}{{ end }}",
            "{{ with .a }}{{ else with \"hunter2\" }}{{ . }}{{ end }}",
            "{{ range $k, $v := dict \"pw\" \"hunter2\" }}{{ $v }}{{ end }}",
            "{{ range list \"hunter2\" }}{{ . }}{{ end }}",
            "{{ $p := \"hunter2\" }}{{ $q := $p }}{{ $q | quote }}",
            "{{ include \"p\" . }}{{ define \"p\" }}hunter2{{ end }}",
            "{{ define \"p\" }}{{ if .a }}{{ \"hunter2\" }}{{ end }}{{ end }}{{ include \"p\" . }}",
            "{{ block \"p\" . }}hunter2{{ end }}{{ template \"p\" . }}",
            "{{ define \"p\" }}hunter2{{ end }}{{ include $t . }}",
            "{{ define \"a.p\" }}hunter2{{ end }}{{ include (printf \"%s.p\" .a) . }}",
            "{{ date \"hunter2\" now }}",
            "{{ dateInZone \"2006\" now \"hunter2\" }}",
            "{{ derivePassword 1 \"long\" \"hunter2\" .b .c }}",
            "{{ regexReplaceAll \"x\" .a \"hunter2\" }}",
            "{{ regexReplaceAll \"x\" \"hunter2\" \"\" }}",
            "{{ printf \"postgres://app:hunter2@%s\" .a }}",
            "{{ include \"common.tplvalues.render\" (dict \"secret\" \"hunter2\") }}",
            "{{ a | default('hunter2') }}",
            "{{ 'hunter2' if a else b }}",
            "{% set p = {\"a\": \"hunter2\"} %}{{ p.a }}",
            "{% set p %}hunter2{% endset %}{{ p }}",
            "{% for p in ['hunter2'] %}{{ p }}{% endfor %}",
            "<% p = {a: \"hunter2\"} %><%= p[:a] %>",
            "{{ ) \"\" }}",
        ] {
            assert!(outputs_literal(text), "{text}");
        }
    }
}
