"""What the user says, validated: frozen Pydantic models whose rules hold from Python, the command line and a file alike."""
