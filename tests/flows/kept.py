"""What a command keeps of the environment of the tests."""

KEPT = ("PATH", "PYTHONPATH", "PYTHONHASHSEED", "HOME", "LANG", "TMPDIR", "JAVA_HOME", "JDK_JAVA_OPTIONS")
