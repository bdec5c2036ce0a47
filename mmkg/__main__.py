"""``python -m mmkg``: the same as the command ``mmkg``."""

from mmkg.cli import main

if __name__ == "__main__":
    main()
