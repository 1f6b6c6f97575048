use clap::Args;

/// Properties of a new Secret besides its values.
#[derive(Debug, Clone, Default, Args)]
pub struct SecretProperties {
    /// Type of the Secret; Opaque if not given
    #[arg(long = "type", value_name = "TYPE")]
    pub type_: Option<String>,
    /// Label of the Secret; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Annotation of the Secret; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Make the Secret immutable
    #[arg(long)]
    pub immutable: bool,
}
