from facegan.cli.main import main

main()
