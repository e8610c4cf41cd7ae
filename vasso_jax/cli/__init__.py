"""The commands: each module reads its arguments, prints, and leaves the work to the package."""
