"""Lets `python3 -m meshchat` do what the installed command does."""

from meshchat.cli import main

if __name__ == "__main__":
    main()
