//! The suite that every backend runs.

use crate::kit::Schema;

store::conformance!(Schema::migrated);
