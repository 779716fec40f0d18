. "$commandsPath"
