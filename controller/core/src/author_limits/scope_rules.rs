//! The scopes that values may have, by namespace.

use std::str::FromStr;

use shared::scope::Scope;

use super::{Violation, matches_pattern};

/// The allowed scopes by namespace. The first matching pattern decides; without a match every scope is allowed. Syntax:
/// `team-*=strict,prod=strict+namespace-wide`, where `*` matches any string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeRules(Vec<(String, Vec<Scope>)>);

/// Why a string is not a valid scope rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid scope rule {0:?}; use a form like 'team-*=strict,prod=strict+namespace-wide'")]
pub struct ScopeRulesError(String);

impl ScopeRules {
    pub(super) fn allow(&self, namespace: &str, scope: Scope) -> Result<(), Violation> {
        let rule = self
            .0
            .iter()
            .find(|(pattern, _)| matches_pattern(pattern, namespace));
        match rule {
            Some((_, scopes)) if !scopes.contains(&scope) => Err(Violation::Scope {
                scope,
                namespace: namespace.to_owned(),
                allowed: join_names(scopes, ", "),
            }),
            _ => Ok(()),
        }
    }
}

impl FromStr for ScopeRules {
    type Err = ScopeRulesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rules = text.split(',').map(str::trim);
        let rules = rules.filter(|rule| !rule.is_empty()).map(parse_rule);
        rules.collect::<Result<_, _>>().map(Self)
    }
}

fn parse_rule(text: &str) -> Result<(String, Vec<Scope>), ScopeRulesError> {
    let invalid_rule = || ScopeRulesError(text.to_owned());
    let (pattern, scopes) = text.split_once('=').ok_or_else(invalid_rule)?;
    let parse_scope = |name: &str| match name.trim() {
        "" => Err(invalid_rule()),
        name => name.parse().map_err(|_| invalid_rule()),
    };
    let scopes = scopes
        .split('+')
        .map(parse_scope)
        .collect::<Result<_, _>>()?;
    match pattern.trim() {
        "" => Err(invalid_rule()),
        pattern => Ok((pattern.to_owned(), scopes)),
    }
}

fn join_names(scopes: &[Scope], separator: &str) -> String {
    let names: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    names.join(separator)
}
