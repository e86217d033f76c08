// Net::SMTP -- everything a program needs to receive, inspect, refuse, store and relay mail. It only includes.
#pragma once

#include "Relay/Maildir.hpp"
#include "Relay/Pipe.hpp"
#include "Relay/Relay.hpp"
#include "Server/Client.hpp"
#include "Server/Event.hpp"
#include "Server/OwnSender.hpp"
#include "Server/Pipeline.hpp"
#include "Server/Server.hpp"
#include "Server/ServerTLS.hpp"
