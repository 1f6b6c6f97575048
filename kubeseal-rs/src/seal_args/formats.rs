use clap::ValueEnum;

/// An output format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Human-readable text.
    #[default]
    #[value(alias = "table")]
    Text,
    /// Machine-readable JSON.
    Json,
}

/// The output format of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Human-readable text.
    #[default]
    Text,
    /// Machine-readable JSON.
    Json,
    /// Markdown, for example for an issue.
    Markdown,
}
