"""The checks of scripts/doctor: each yields lines, and none changes anything or imports pulumi, which is slow."""
