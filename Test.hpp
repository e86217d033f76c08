// Test -- the one header for programs that test their own mail: servers and a client to play with, and a DNS.
#pragma once

#include "Server/Test/Certificates.hpp"
#include "Server/Test/FakeResolver.hpp"
#include "Server/Test/MailServer.hpp"
#include "Server/Test/ScriptedClient.hpp"
#include "Server/Test/ScriptedServer.hpp"
#include "Server/Test/Users.hpp"
