use clap::{Args, ValueEnum};

use crate::seal::sealing::Delivery;

/// Properties of a new Secret besides its values, and of its SealedSecret.
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
    /// Deliver the values to Pods as `files`, and create no Secret: sets an annotation of the SealedSecret, which every
    /// author of the file can remove
    #[arg(long, value_name = "FORM", hide_possible_values = true)]
    pub deliver: Option<DeliveryForm>,
    /// Seal the values so that they can never become a Secret; only v2
    #[arg(long)]
    pub never_secret: bool,
}

/// The form in which values reach Pods without a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeliveryForm {
    /// Files.
    Files,
}

impl SecretProperties {
    /// Returns how the values reach Pods.
    pub fn delivery(&self) -> Delivery {
        Delivery {
            is_files: self.deliver == Some(DeliveryForm::Files),
            is_never_secret: self.never_secret,
        }
    }
}
