"""The files of the live page; a package only so that they are installed with the rest."""
