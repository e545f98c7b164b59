"""Generated from proto/dcron.proto by `make proto`; never edited."""
