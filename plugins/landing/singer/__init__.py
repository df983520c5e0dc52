"""The Singer protocol and everything of the Singer SDK that the plugins override."""
